"""Images in one folder per class, for mmpretrain configs. Importing this module imports mmpretrain."""

from collections.abc import Callable, Mapping, Sequence

from mmpretrain.datasets import BaseDataset

from ..datasets.class_folders import Folders, list_images, resolve_classes


class ImageFolderDataset(BaseDataset):
    """One folder per class, as torchvision's ``ImageFolder`` and the ImageNet data sets have them.

    Args:
        data_root: folder of the data set.
        data_prefix: folder of the split in ``data_root``, which contains the folders of the classes.
        folders: names of the folders in the order of the labels, or 'imagenet-1k' or 'imagenet-21k'; None:
            all that exist, by name (by number if all are numbers).
        metainfo: ``classes``, their names; default: ImageNet's, or the folders'.
        subset: only some of ``folders`` may exist; those are the classes.
        sample: only so many images, evenly spaced over all classes; None: all.
        pipeline: transforms.
        indices: only the first so many images, or the images with these indices.
        test_mode: as in mmengine.
        lazy_init: do not list the files yet.

    Raises:
        UserError: folders that do not fit: see ``datasets.class_folders.resolve_classes``.
    """

    def __init__(
        self,
        *,
        data_root: str = '',
        data_prefix: str = '',
        folders: Folders = None,
        metainfo: Mapping | None = None,
        subset: bool = False,
        sample: int | None = None,
        pipeline: Sequence[Mapping | Callable] = (),
        indices: int | Sequence[int] | None = None,
        test_mode: bool = False,
        lazy_init: bool = False,
    ) -> None:
        super().__init__(
            ann_file='',
            metainfo=dict(metainfo or {}),
            data_root=data_root,
            data_prefix=data_prefix,
            pipeline=pipeline,
            indices=indices,
            test_mode=test_mode,
            lazy_init=True,
        )
        self.sample = sample
        classes = (metainfo or {}).get('classes')
        self.folders, names = resolve_classes(self.img_prefix, folders, classes, subset=subset)
        self._metainfo['classes'] = tuple(names)
        if not lazy_init:
            self.full_init()

    def load_data_list(self) -> list[dict]:
        """List the images and their labels."""
        images = list_images(self.img_prefix, self.folders)
        if self.sample is not None and self.sample < len(images):
            images = [images[i * len(images) // self.sample] for i in range(self.sample)]
        return [dict(img_path=path, gt_label=label) for path, label in images]
