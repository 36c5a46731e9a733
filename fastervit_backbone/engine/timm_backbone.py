"""timm's convolutional and pyramid models as backbones in mmdet and mmseg configs, for the baselines."""

from torch import Tensor, nn

from ..models.layers.conv import ChannelLayerNorm
from ..utils.errors import UserError


class TimmBackbone(nn.Module):
    """``timm.create_model(model_name, features_only=True)`` with FasterViT's LayerNorm on every output.

    Args:
        model_name: a timm model that takes any image size.
        out_indices: stages whose maps are returned.
        drop_path_rate: stochastic depth, [0, 1).
        pretrained: name of timm weights (``convnext_tiny.fb_in1k``), which only :meth:`init_weights`
            downloads; None for random weights.

    Attributes:
        out_channels: of every map.
        out_strides: of every map.

    Raises:
        UserError: timm is not installed, or has no such model with feature maps.
    """

    def __init__(
        self,
        model_name: str,
        *,
        out_indices: tuple[int, ...] = (0, 1, 2, 3),
        drop_path_rate: float = 0.0,
        pretrained: str | None = None,
    ) -> None:
        super().__init__()
        self.pretrained, self.out_indices = pretrained, tuple(out_indices)
        self.net = self._create(model_name, drop_path_rate=drop_path_rate, pretrained=False)
        self.out_channels = tuple(self.net.feature_info.channels())
        self.out_strides = tuple(self.net.feature_info.reduction())
        self.out_norms = nn.ModuleList(ChannelLayerNorm(c, eps=1e-6) for c in self.out_channels)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the maps of ``out_indices``: images (B, 3, H, W) -> (B, C_i, H / s_i, W / s_i) each."""
        maps = self.net(images)
        return tuple(norm(m).contiguous() for norm, m in zip(self.out_norms, maps, strict=True))

    def init_weights(self) -> None:
        """Load the weights that ``pretrained`` names, if any; timm downloads them.

        Raises:
            UserError: the download failed.
        """
        if self.pretrained is None:
            return
        try:
            source = self._create(self.pretrained, drop_path_rate=0.0, pretrained=True)
        except (OSError, RuntimeError) as error:
            raise UserError(
                f'download of timm weights {self.pretrained!r} failed ({type(error).__name__}: {error}): '
                'connect to the network, or train from scratch: --cfg-options model.backbone.pretrained=None'
            ) from error
        self.net.load_state_dict(source.state_dict())

    def _create(self, name: str, *, drop_path_rate: float, pretrained: bool) -> nn.Module:
        try:
            import timm
        except ModuleNotFoundError as error:
            raise UserError('TimmBackbone needs timm, which is not installed: pip install timm') from error
        if not timm.is_model(name):
            raise UserError(f'model.backbone.model_name: timm {timm.__version__} has no model {name!r}')
        return timm.create_model(
            name,
            features_only=True,
            out_indices=self.out_indices,
            drop_path_rate=drop_path_rate,
            pretrained=pretrained,
        )
