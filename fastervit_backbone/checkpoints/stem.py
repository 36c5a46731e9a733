"""Fit the first convolution of weights of color images to images of other channels."""

from collections.abc import Mapping

from torch import Tensor

#: The first convolution, of the paper's stem and of the patch stem.
STEMS = ('stem.conv1.weight', 'stem.proj.weight')


def adapt_stem(
    tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], str]:
    """Turn the filters of red, green and blue into those of other channels, as timm does.

    One channel gets their sum, as if it were all three colors; N get them in turn, times 3 / N, so that the
    result keeps its size (to the number where N is a multiple of 3 and channels are equal).

    Args:
        tensors: of a backbone, or of a whole model.
        expected: those of the network.

    Returns:
        the tensors, and a note on what was done; '' where nothing was, because channels are equal or those of
        the weights are no colors.
    """
    names = (name for name in tensors if name.removeprefix('backbone.') in STEMS and name in expected)
    name = next(names, None)
    in_chans = 3 if name is None else expected[name].shape[1]
    if name is None or tensors[name].shape[1] != 3 or in_chans == 3:
        return dict(tensors), ''
    weight = tensors[name]
    if in_chans == 1:
        return {
            **tensors,
            name: weight.sum(1, keepdim=True),
        }, f'{name}: the sum of its 3 colors for 1 channel'
    turns = -(-in_chans // 3)
    repeated = weight.repeat(1, turns, 1, 1)[:, :in_chans] * (3 / in_chans)
    return {**tensors, name: repeated}, f'{name}: its 3 colors in turn for {in_chans} channels'
