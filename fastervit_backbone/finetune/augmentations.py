"""Augmentation presets, a row each; :mod:`.pipelines` makes pipelines of them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Augmentation:
    """How training images are changed.

    Attributes:
        scale: range of the random scale of images of objects.
        crops_objects: whether these are then cropped to the size of training; the others are larger then.
        label_scale: range of the random scale of label maps, before a crop; None: whole images, not cropped.
        changes: whether images are mirrored, and a classifier's are cropped.
        is_strong: also colors, rotation of label maps, and what mmpretrain calls AutoAugment.
    """

    scale: tuple[float, float]
    crops_objects: bool = False
    label_scale: tuple[float, float] | None = None
    changes: bool = True
    is_strong: bool = False


#: ``finetune --augment`` -> its row.
AUGMENTATIONS = {
    'none': Augmentation(scale=(1.0, 1.0), changes=False),
    'light': Augmentation(scale=(0.8, 1.25), label_scale=(0.75, 1.5)),
    # large-scale jitter (Simple Copy-Paste, arXiv:2012.07177, 2.2) with colors
    'strong': Augmentation(scale=(0.5, 2.0), crops_objects=True, label_scale=(0.5, 2.0), is_strong=True),
}
