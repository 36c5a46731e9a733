"""Which layers stay in float when a file is quantized."""

from dataclasses import dataclass, field

#: Parts of the names of the last layers, which decide about classes and coordinates and stay in float.
LAST_LAYERS = tuple(
    'fc_cls fc_reg rpn_cls rpn_reg retina_cls retina_reg conv_logits conv_seg cls_branches reg_branches '
    'rtm_cls rtm_reg rtm_kernel rtm_obj cls_embed mask_embed '
    'sampling_offsets attention_weights ref_point_head model.head.'.split()
)
#: Position MLPs, where the size is not fixed and they are computed.
POSITIONS = ('.position.', '.bias.')


@dataclass
class Quantized:
    """What was quantized.

    Attributes:
        products: number of convolutions and matrix products that could be.
        kept: layers of them in float, and why.
    """

    products: int
    kept: list[str] = field(default_factory=list)
