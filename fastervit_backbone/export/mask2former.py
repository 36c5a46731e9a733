"""Mask2Former as modules that are exported (Cheng et al., arXiv 2112.01527)."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..utils.errors import UserError
from .detector_ops import gather_attention
from .detectors import DetectorGraph
from .graph import SegmenterGraph


class Mask2FormerGraph(DetectorGraph):
    """``probabilities`` (B, Q, classes + 1), the last for "no object", and ``masks`` (B, Q, h, w), logits.

    What the queries mean is computed from masks of the size of the image, outside of the file:
    :mod:`~fastervit_backbone.inference.exported_masks`.
    """

    outputs = ('probabilities', 'masks')

    def __init__(self, model: Any, size: tuple[int, int] | None) -> None:
        super().__init__(model, size)
        gather_attention(self.model)
        fusion = self.model.panoptic_fusion_head
        cfg = fusion.test_cfg
        how: dict[str, Any] = dict(things=fusion.num_things_classes)
        if cfg.get('instance_on', False):
            how['max_per_image'] = cfg.get('max_per_image', 100)
        if cfg.get('panoptic_on', True):
            how['panoptic'] = dict(
                object_mask_thr=cfg.get('object_mask_thr', 0.8),
                iou_thr=cfg.get('iou_thr', 0.8),
                filter_low_score=cfg.get('filter_low_score', False),
            )
        self.reading = dict(queries=how)

    def compute(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, channels, H, W) -> probabilities and masks."""
        logits, masks = _queries(self.model.panoptic_head, self.model.extract_feat(x))
        return logits.softmax(2), masks


class Mask2FormerSegmenterGraph(SegmenterGraph):
    """mmseg's: ``logits`` (B, classes, H, W), of the size of the images, and ``label_map``."""

    def __init__(self, model: Any, size: tuple[int, int] | None) -> None:
        if size is None:
            raise UserError('--dynamic: the attention of a Mask2Former belongs to one size: use --size')
        super().__init__(model, size)
        gather_attention(self.model)

    def compute(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, channels, H, W) -> logits and label map."""
        logits, masks = _queries(self.model.decode_head, self.model.extract_feat(x))
        masks = F.interpolate(masks, x.shape[2:], mode='bilinear', align_corners=False).sigmoid()
        scores = torch.einsum('bqc,bqhw->bchw', logits.softmax(2)[..., :-1], masks)
        return scores, self.choose(scores)


def _queries(head: Any, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the last logits (B, Q, classes + 1) and masks (B, Q, h, w) of mmdet's Mask2FormerHead."""
    finest, levels = _decode_pixels(head.pixel_decoder, maps)
    count = head.num_transformer_feat_level
    keys, positions = [], []
    for i, (level, project) in enumerate(zip(levels[:count], head.decoder_input_projs, strict=True)):
        keys.append(_tokens(project(level)) + head.level_embed.weight[i])
        positions.append(_tokens(head.decoder_positional_encoding(None, input=level)))
    features, embeddings = (
        embedding.weight[None].expand(len(finest), -1, -1)
        for embedding in (head.query_feat, head.query_embed)
    )
    for i, layer in enumerate(head.transformer_decoder.layers):
        level = i % count
        _, _, hidden = head._forward_head(features, finest, levels[level].shape[2:])
        hidden = hidden & ~hidden.all(2, keepdim=True)  # a query whose mask is empty sees everything
        features = layer(
            query=features,
            key=keys[level],
            value=keys[level],
            query_pos=embeddings,
            key_pos=positions[level],
            cross_attn_mask=hidden,
        )
    logits, masks, _ = head._forward_head(features, finest, levels[0].shape[2:])
    return logits, masks


def _decode_pixels(decoder: Any, maps: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Return the features of masks (B, C, h, w) and maps from coarse to fine of MSDeformAttnPixelDecoder."""
    if type(decoder).__name__ != 'MSDeformAttnPixelDecoder':
        raise UserError(f'export knows MSDeformAttnPixelDecoder only, not {type(decoder).__name__}')
    coarse = list(reversed(maps))[: decoder.num_encoder_levels]
    shapes = [(m.shape[2], m.shape[3]) for m in coarse]
    tokens, positions, references = [], [], []
    for i, (x, project) in enumerate(zip(coarse, decoder.input_convs, strict=True)):
        tokens.append(_tokens(project(x)))
        position = _tokens(decoder.postional_encoding(None, input=x))
        positions.append(position + decoder.level_encoding.weight[i])
        references.append(_centers(x))
    points = torch.cat(references)[None, :, None].expand(len(maps[0]), -1, len(coarse), -1)
    memory = decoder.encoder(
        query=torch.cat(tokens, 1),
        query_pos=torch.cat(positions, 1),
        key_padding_mask=None,
        spatial_shapes=shapes,
        reference_points=points,
        level_start_index=None,
        valid_ratios=None,
    )
    parts = memory.transpose(1, 2).split([h * w for h, w in shapes], 2)
    levels = [part.unflatten(2, shape) for part, shape in zip(parts, shapes, strict=True)]
    finer = range(decoder.num_input_levels - decoder.num_encoder_levels - 1, -1, -1)
    for i in finer:
        lateral = decoder.lateral_convs[i](maps[i])
        above = F.interpolate(levels[-1], lateral.shape[2:], mode='bilinear', align_corners=False)
        levels.append(decoder.output_convs[i](lateral + above))
    return decoder.mask_feature(levels[-1]), levels[: decoder.num_outs]


def _tokens(x: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h * w, C)."""
    return x.flatten(2).transpose(1, 2)


def _centers(x: Tensor) -> Tensor:
    """Return x and y in 0..1 of the centers of a map's places: (h * w, 2)."""
    ys, xs = ((torch.arange(n, device=x.device) + 0.5) / n for n in x.shape[2:])
    return torch.stack((xs.repeat(len(ys)), ys.repeat_interleave(len(xs))), 1).to(x.dtype)
