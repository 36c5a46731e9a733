"""Sheet of training images as the model will see them: after augmentation, with their annotations."""

from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from mmengine.structures import BaseDataElement

from ..engine.load_image import use_one_decoder
from ..engine.runner.sampling import FaultTolerantDataset, SeededIndex, random_state_kept
from ..structures.prediction import Categories, Prediction, encode_mask
from ..visualization.contact_sheet import cell, evenly_spaced, save_grid


def write_augmented(config: Config, path: Path) -> None:
    """Draw up to twelve augmented training images; the seed of the config decides how they are augmented.

    Args:
        config: as :func:`~.flat_config.build_config` builds it; its training data are read.
        path: ``.jpg`` or ``.png`` file to write.

    Raises:
        UserError: no image can be read.
    """
    with random_state_kept():
        init_default_scope(config.default_scope)
        use_one_decoder()
        with redirect_stdout(StringIO()):  # pycocotools reports what it does
            dataset = FaultTolerantDataset(DATASETS.build(config.train_dataloader.dataset))
        names = tuple(dataset.metainfo['classes'])
        categories = Categories(names, tuple(range(len(names))))
        cells = []
        for index in evenly_spaced(range(len(dataset))):
            sample = dataset[SeededIndex(index, (config.randomness.seed, 0, index))]
            pixels = sample['inputs'].permute(1, 2, 0).clamp(0, 255).to(torch.uint8).numpy()  # some are float
            annotated, text = _annotations(sample['data_samples'], len(names))
            name = Path(sample['data_samples'].img_path).name
            text = f'{name}, {pixels.shape[0]}x{pixels.shape[1]}{text}'
            cells.append((text, cell(pixels, annotated, categories)))
    save_grid(cells, path)


def _annotations(sample: BaseDataElement, num_classes: int) -> tuple[Prediction, str]:
    """Return a sample's annotations in the augmented image, and what the sheet says of them."""
    height, width = sample.img_shape[:2]
    if 'gt_sem_seg' in sample:
        label_map = sample.gt_sem_seg.data[0].numpy()
        return Prediction.of_label_map(label_map, num_classes, range(num_classes)), ''
    if 'gt_label' in sample:
        probabilities = np.zeros(num_classes, np.float32)
        probabilities[sample.gt_label.numpy()] = 1
        label = Prediction.of_classes((height, width), probabilities)
        return label.select(label.scores > 0), ''
    objects = sample.gt_instances
    boxes, labels = objects.bboxes.numpy().astype(np.float32), objects.labels.numpy()
    masks = None
    if 'masks' in objects:
        masks = [encode_mask(mask > 0) for mask in objects.masks.to_ndarray()]
    scores = np.ones(len(boxes), np.float32)
    return Prediction((height, width), boxes, scores, labels, masks), f', {len(boxes)} objects'
