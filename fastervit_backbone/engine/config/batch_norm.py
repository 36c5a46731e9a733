"""Conditions under which BatchNorm can train."""

from mmengine.config import Config

from ...utils.errors import UserError
from .validate import as_list


def check_batch(config: Config) -> None:
    """Raise UserError if BatchNorm would see one value per channel: UPerHead pools an image to one pixel."""
    if config.train_dataloader.get('batch_size') != 1:
        return
    for head in as_list(config.model.get('decode_head')):
        if head.get('type') == 'UPerHead' and (head.get('norm_cfg') or {}).get('type') == 'BN':
            raise UserError(
                'UPerHead pools to a single pixel, and BatchNorm needs two: train_dataloader.batch_size=2 or '
                'more, or --cfg-options model.decode_head.norm_cfg.type=GN '
                'model.decode_head.norm_cfg.num_groups=32'
            )


def fit_norm_eval(config: Config) -> list[str]:
    """Let BatchNorm learn its statistics if the backbone starts from scratch.

    The initial ones, mean 0 and variance 1, do not normalize anything.

    Args:
        config: changed in place.

    Returns:
        a message if the config was changed.
    """
    backbone = config.model.get('backbone') or {}
    is_pretrained = config.get('load_from') or any(
        part.get(key) for part in (backbone, config.model) for key in ('init_cfg', 'pretrained')
    )
    if is_pretrained or not backbone.get('norm_eval'):
        return []
    backbone.norm_eval = False
    reason = 'without pretrained weights, BatchNorm has to learn its statistics'
    return [f'model.backbone.norm_eval True -> False: {reason}']
