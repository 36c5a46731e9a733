"""An exported file in place of a toolkit's model, so that its test data, metrics and pictures apply."""

import numpy as np
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement, InstanceData, PixelData

from ..datasets.images import read_image
from ..engine.config.reading import classes_of
from ..structures.prediction import Prediction, decode_mask
from ..utils.errors import UserError
from .exported import ExportedModel
from .load_model import task_of, test_dataset


class ExportedInToolkit(BaseModel):
    """A model for mmengine's test loop that reads the images itself and prepares them for the file.

    Args:
        exported: the file.
    """

    def __init__(self, exported: ExportedModel) -> None:
        super().__init__()
        self.exported = exported

    def forward(self, inputs: object, data_samples: object = None, mode: str = 'tensor') -> None:
        """Raise RuntimeError: a file has no forward pass."""
        raise RuntimeError('an exported file only has test_step')

    def test_step(self, data: dict) -> list[BaseDataElement]:
        """Fill in the predictions of a batch's ``data_samples``."""
        samples = data['data_samples']
        if self.exported.task == 'detection':
            from mmdet.models.utils.misc import samplelist_boxtype2tensor

            samplelist_boxtype2tensor(samples)  # as mmdet's data preprocessor does
        pixels = [read_image(sample.img_path, self.exported.pixels) for sample in samples]
        if self.exported.task == 'classification':
            canvases = np.stack([self.exported.prepare(image)[0] for image in pixels])
            for sample, scores in zip(samples, self.exported.run(canvases)['scores'], strict=True):
                sample.set_pred_score(torch.from_numpy(scores.astype(np.float32)))
                sample.set_pred_label(torch.from_numpy(scores).argmax().reshape(1))
            return samples
        for sample, found in zip(samples, self.exported.infer(pixels, 0.0, None), strict=True):
            _fill(sample, found, len(self.exported.categories.names))
        return samples


def _fill(sample: BaseDataElement, found: Prediction, num_classes: int) -> None:
    """Store a prediction as mmseg or mmdet does, which count pixels without a segment as one more class."""
    if found.label_map is not None:
        sample.pred_sem_seg = PixelData(data=torch.from_numpy(found.label_map.astype(np.int64))[None])
        return
    if found.panoptic is not None:
        segments = np.where(found.panoptic < 0, num_classes, found.panoptic)
        sample.pred_panoptic_seg = PixelData(sem_seg=torch.from_numpy(segments)[None])
    objects = InstanceData(
        bboxes=torch.from_numpy(found.boxes),
        scores=torch.from_numpy(found.scores),
        labels=torch.from_numpy(found.labels),
    )
    if found.masks is not None:
        masks = [decode_mask(rle) for rle in found.masks]
        objects.masks = torch.from_numpy(np.stack(masks) if masks else np.zeros((0, *found.size), bool))
    sample.pred_instances = objects


def check_classes(exported: ExportedModel, config: Config) -> None:
    """Raise UserError unless the file has the classes of the config's test data, and its task."""
    task = task_of(config)
    if task != exported.task:
        raise UserError(f'{exported.path} is for {exported.task}, {config.filename} for {task}')
    wanted = classes_of(test_dataset(config))
    if wanted and tuple(map(str, wanted)) != exported.categories.names:
        raise UserError(
            f'{exported.path} has the classes {", ".join(exported.categories.names[:5])}, the test data of '
            f'{config.filename} has {", ".join(map(str, wanted[:5]))}: they must be the same'
        )
