"""timm's convolutional and pyramid models as backbones of mm configs, for the baselines: channels and strides declared."""

from torch import Tensor, nn

from ..models.layers.conv import ChannelLayerNorm
from ..utils.errors import UserError


class TimmBackbone(nn.Module):
    """``timm.create_model(model_name, features_only=True)`` with a LayerNorm over channels on every output, as FasterViT has.

    Args:
        model_name: of timm; it must take any image size.
        out_indices: which of its maps.
        drop_path_rate: stochastic depth, [0, 1).
        pretrained: a timm weight name (``convnext_tiny.fb_in1k``), downloaded by :meth:`init_weights` and not before; None for none.

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
        """Maps of the stages in ``out_indices``: (B, C_i, H / s_i, W / s_i) for images (B, 3, H, W)."""
        maps = self.net(images)
        return tuple(norm(m).contiguous() for norm, m in zip(self.out_norms, maps, strict=True))

    def init_weights(self) -> None:
        """Fetch the weights that ``pretrained`` names, if any, through timm.

        Raises:
            UserError: they cannot be had.
        """
        if self.pretrained is None:
            return
        try:
            source = self._create(self.pretrained, drop_path_rate=0.0, pretrained=True)
        except (OSError, RuntimeError) as error:
            raise UserError(
                f'cannot get timm weights {self.pretrained!r} ({type(error).__name__}: {error}): connect to the network, or start '
                'from nothing with --cfg-options model.backbone.pretrained=None'
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
