"""mmcv's ``LoadImageFromFile`` on this package's decoder. Importing this module imports mmcv."""

from collections.abc import Sequence

from mmcv.transforms import LoadImageFromFile as MmcvLoadImageFromFile
from mmengine.registry import TRANSFORMS

from ..datasets.images import read_image
from ..datasets.pixel_format import PixelFormat
from .config.lookup import import_toolkit


class LoadImageFromFile(MmcvLoadImageFromFile):
    """Read images with :func:`~fastervit_backbone.datasets.images.read_image`.

    Images of 8 bits are the same to the pixel, but for an orientation in WebP or XMP, which OpenCV ignores.
    Another ``color_type``, decoder or storage is left to mmcv.

    Args:
        bits: of colors: that 16-bit files use, 8, 10, 12, 14 or 16; None: all 16.
        channels: read all channels of a file, which must be so many, as float32 in the file's numbers; None:
            colors, BGR in 8 bits.
        dtype: what numbers files must have, with ``channels``: 'uint8', 'uint16', ..., 'float'; None: any.
        rgb: which of the channels pictures show as red, green and blue, counted from 0; None: the first.
        options: mmcv's own.

    Raises:
        ValueError: other values, or options that exclude each other.
    """

    def __init__(
        self,
        *args: object,
        bits: int | None = None,
        channels: int | None = None,
        rgb: Sequence[int] | None = None,
        dtype: str | None = None,
        **options: object,
    ) -> None:
        super().__init__(*args, **options)
        self.pixels = PixelFormat(bits, channels, rgb, dtype)  # type: ignore[arg-type]
        stored = self.file_client_args or self.backend_args or dict(backend='local')
        is_local = stored in (dict(backend='local'), dict(backend='disk'))
        self.is_ours = is_local and self.color_type == 'color' and self.imdecode_backend == 'cv2'
        for name, value in self.pixels.options().items():
            if not self.is_ours:
                raise ValueError(
                    f'{name}={value}: only with color_type="color", imdecode_backend="cv2" and local files'
                )

    def transform(self, results: dict) -> dict | None:
        """Read ``results['img_path']`` into ``img``, ``img_shape`` and ``ori_shape``."""
        if not self.is_ours:
            return super().transform(results)
        try:
            pixels = read_image(results['img_path'], self.pixels)
        except Exception:
            if self.ignore_empty:
                return None
            raise
        results['img'] = pixels.astype('float32') if self.to_float32 else pixels
        results['img_shape'] = results['ori_shape'] = pixels.shape[:2]
        return results


def use_one_decoder(scope: str) -> None:
    """Let all data sets that are built from now on read their images as checks and prediction do.

    Args:
        scope: of the config: 'mmdet', 'mmseg', 'mmpretrain', ...; mmpretrain has an entry of its own.
    """
    import_toolkit(scope)
    for registry in (TRANSFORMS, *TRANSFORMS.children.values()):
        if 'LoadImageFromFile' in registry.module_dict:
            registry.register_module(name='LoadImageFromFile', module=LoadImageFromFile, force=True)
