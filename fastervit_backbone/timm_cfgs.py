"""timm's default_cfgs of the models: file, image size, how images are prepared."""

from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import (
    generate_default_cfgs,
)

_HUB = 'https://huggingface.co/ahatamiz/FasterViT/resolve/main/'


def _cfg(file: str = '', size: int = 224, **changes: Any) -> dict[str, Any]:
    """Build the entry of a model: its file, image size, and how images are prepared where published so."""
    return (
        dict(
            url=_HUB + file if file else '',
            custom_load=True,
            num_classes=1000,
            input_size=(3, size, size),
            pool_size=(size // 32, size // 32),
            crop_pct=1.0,
            crop_mode='center',
            interpolation='bicubic',
            mean=IMAGENET_DEFAULT_MEAN,
            std=IMAGENET_DEFAULT_STD,
            first_conv='stem.conv1',
            classifier='head.fc',
            license='nvidia non-commercial' if file else 'apache-2.0',
            paper_ids='arXiv:2306.06189',
            paper_name='FasterViT: Fast Vision Transformers with Hierarchical Attention',
        )
        | changes
    )


default_cfgs = generate_default_cfgs(
    {
        'fastervit_nano.untrained': _cfg(),
        'fastervit_0.nv_in1k': _cfg('fastervit_0_224_1k.pth.tar', crop_pct=0.875),
        **{f'fastervit_{i}.nv_in1k': _cfg(f'fastervit_{i}_224_1k.pth.tar') for i in range(1, 7)},
        'fastervit_4_21k_224.nv_in21k_ft_in1k': _cfg(
            'fastervit_4_21k_224_w14.pth.tar', crop_pct=0.95, crop_mode='squash'
        ),
        'fastervit_4_21k_384.nv_in21k_ft_in1k': _cfg(
            'fastervit_4_21k_384_w24.pth.tar', 384, crop_mode='squash'
        ),
        'fastervit_4_21k_512.nv_in21k_ft_in1k': _cfg(
            'fastervit_4_21k_512_w32.pth.tar', 512, crop_mode='squash'
        ),
        'fastervit_4_21k_768.nv_in21k_ft_in1k': _cfg(
            'fastervit_4_21k_768_w48.pth.tar', 768, crop_pct=0.93, crop_mode='squash'
        ),
    }
)
