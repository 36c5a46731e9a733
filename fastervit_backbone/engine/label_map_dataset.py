"""Images and label maps in two folders, for mmseg configs. Importing this module imports mmseg."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from ..datasets.image_headers import open_image
from ..datasets.validation.label_maps import IGNORED


@DATASETS.register_module()
class LabelMapDataset(BaseSegDataset):
    """mmseg's ``BaseSegDataset``, with an ``ignore_index`` whose pixels count in no loss and no metric.

    Args:
        metainfo: ``classes``, names of the labels 0, 1, ...; optionally ``palette``, (r, g, b) per class.
        data_root: folder that contains both folders of ``data_prefix``.
        data_prefix: ``img_path`` and ``seg_map_path``, folders with equal file stems.
        img_suffix: suffix of the images.
        seg_map_suffix: suffix of the label maps.
        ignore_index: value in the files that is ignored, besides 255 (and 0 with ``reduce_zero_label``).
        reduce_zero_label: 0 in the files is ignored and 1 is the first class.
        pipeline: transforms.
        indices: only the first so many images, or the images with these indices.
        test_mode: as in mmengine.
        lazy_init: do not list the files yet.

    Raises:
        ValueError: ``ignore_index`` is not an integer in 1..255 (for 0 use ``reduce_zero_label``).
    """

    def __init__(
        self,
        *,
        metainfo: Mapping,
        data_root: str | None = None,
        data_prefix: Mapping[str, str],
        img_suffix: str = '.png',
        seg_map_suffix: str = '.png',
        ignore_index: int = IGNORED,
        reduce_zero_label: bool = False,
        pipeline: Sequence[Mapping | Callable] = (),
        indices: int | Sequence[int] | None = None,
        test_mode: bool = False,
        lazy_init: bool = False,
    ) -> None:
        if not isinstance(ignore_index, int) or not 0 < ignore_index <= IGNORED:
            raise ValueError(
                f'ignore_index must be an integer in 1..{IGNORED}, got {ignore_index!r} (for 0 use '
                'reduce_zero_label=True)'
            )
        named = list(metainfo.get('classes') or ())
        index = ignore_index - int(reduce_zero_label)
        if ignore_index != IGNORED and index < len(named):
            raise ValueError(
                f'ignore_index={ignore_index} is the class {named[index]!r}: it would never be learned'
            )
        self._classes_in: dict[str, list[int]] = {}
        super().__init__(
            metainfo=dict(metainfo),
            data_root=data_root,
            data_prefix=dict(data_prefix),
            img_suffix=img_suffix,
            seg_map_suffix=seg_map_suffix,
            ignore_index=ignore_index,
            reduce_zero_label=reduce_zero_label,
            pipeline=list(pipeline),
            indices=indices,
            test_mode=test_mode,
            lazy_init=True,
        )
        if ignore_index != IGNORED:  # applied during loading, after reduce_zero_label
            self.label_map = {ignore_index - int(reduce_zero_label): IGNORED}
            self._metainfo['label_map'] = self.label_map
        if not lazy_init:
            self.full_init()

    def get_cat_ids(self, idx: int) -> list[int]:
        """Return the classes in the label map of an image, for ClassBalancedDataset; the file is read."""
        path = self.get_data_info(idx)['seg_map_path']
        if path not in self._classes_in:
            with open_image(path) as image:
                values = np.unique(np.asarray(image)).astype(int)
            if self.reduce_zero_label:
                values = values[values > 0] - 1
            ignored = {IGNORED, *(self.label_map or {})}
            count = len(self.metainfo['classes'])
            self._classes_in[path] = [v for v in values.tolist() if v < count and v not in ignored]
        return self._classes_in[path]
