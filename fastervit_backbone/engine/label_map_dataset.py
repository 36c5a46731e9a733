"""A data set of images and label maps in two folders, for mmseg configs. Importing this imports mmseg."""

from collections.abc import Callable, Mapping, Sequence

from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from ..datasets.label_maps import IGNORED


@DATASETS.register_module()
class LabelMapDataset(BaseSegDataset):
    """mmseg's ``BaseSegDataset`` whose ``ignore_index`` does what it says: those pixels count in no loss and no metric.

    Args:
        metainfo: ``classes``, names of the labels 0, 1, ...; ``palette`` if wanted, one (r, g, b) a class.
        data_root: folder of the next two.
        data_prefix: ``img_path`` and ``seg_map_path``, folders of images and of label maps with the same names.
        img_suffix: ending of the images.
        seg_map_suffix: ending of the label maps.
        ignore_index: value in the files that means "no class" (255, and with ``reduce_zero_label`` 0, mean that anyway).
        reduce_zero_label: 0 in the files means "no class" and 1 is the first class.
        pipeline: transforms.
        indices: the first so many images, or these.
        test_mode: as in mmengine.
        lazy_init: list no files yet.

    Raises:
        ValueError: ``ignore_index`` no whole number, or out of 1..255 (for 0 there is ``reduce_zero_label``).
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
                f'ignore_index must be a whole number in 1..{IGNORED}, got {ignore_index!r} (0: reduce_zero_label=True)'
            )
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
        if ignore_index != IGNORED:  # applied while loading, after reduce_zero_label
            self.label_map = {ignore_index - int(reduce_zero_label): IGNORED}
            self._metainfo['label_map'] = self.label_map
        if not lazy_init:
            self.full_init()
