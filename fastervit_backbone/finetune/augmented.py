"""Sheet of training images as the model will see them: after augmentation, with their annotations."""

from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

from ..engine.config.reading import leaf_datasets, pixel_format
from ..engine.load_image import use_one_decoder
from ..engine.runner.sampling import FaultTolerantDataset, SeededIndex, random_state_kept
from ..engine.samples import annotated_in
from ..structures.prediction import Categories
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
        use_one_decoder(config.default_scope)
        with redirect_stdout(StringIO()):  # pycocotools reports what it does
            dataset = FaultTolerantDataset(DATASETS.build(config.train_dataloader.dataset))
        names = tuple(dataset.metainfo['classes'])
        categories = Categories(names, tuple(range(len(names))))
        pipeline = next(leaf_datasets(config.train_dataloader.dataset))['pipeline']
        cells, read = [], pixel_format(pipeline)
        for index in evenly_spaced(range(len(dataset))):
            sample = dataset[SeededIndex(index, (config.randomness.seed, 0, index))]
            array = sample['inputs'].permute(1, 2, 0)
            if read.is_color:  # some augmentations return floats
                array = array.clamp(0, 255).to(torch.uint8)
            pixels = read.picture(array.numpy())
            size = sample['data_samples'].img_shape[:2]
            annotated = annotated_in(sample['data_samples'], size, len(names))
            name = Path(sample['data_samples'].img_path).name
            is_detection = 'gt_instances' in sample['data_samples']
            text = f', {len(annotated.boxes)} objects' if is_detection else ''
            text = f'{name}, {pixels.shape[0]}x{pixels.shape[1]}{text}'
            cells.append((text, cell(pixels, annotated, categories)))
    save_grid(cells, path)
