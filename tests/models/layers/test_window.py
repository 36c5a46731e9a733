import pytest
import torch

from fastervit_backbone.models.layers.window import (
    carriers_to_windows,
    pad_to_windows,
    window_partition,
    window_unpartition,
    windows_to_carriers,
)


@pytest.mark.parametrize(
    ('h', 'w', 'side'), [(7, 7, 7), (1, 1, 7), (9, 20, 7), (14, 21, 7), (5, 13, 4), (3, 2, 1)]
)
def test_partition_round_trip_with_padding(h, w, side):
    x = torch.randn(2, h, w, 5)
    padded = pad_to_windows(x, side)
    assert padded.shape[1] % side == padded.shape[2] % side == 0
    assert padded.shape[1] - h < side and padded.shape[2] - w < side
    windows_hw = (padded.shape[1] // side, padded.shape[2] // side)
    windows = window_partition(padded, side)
    assert windows.shape == (2 * windows_hw[0] * windows_hw[1], side * side, 5)
    back = window_unpartition(windows, side, windows_hw)
    assert torch.equal(back, padded)
    assert torch.equal(back[:, :h, :w], x)
    assert padded[:, h:].abs().sum() == padded[:, :, w:].abs().sum() == 0


def test_windows_are_ordered_row_by_row():
    x = torch.arange(4 * 6.0).reshape(1, 4, 6, 1)
    windows = window_partition(x, 2)
    assert windows[0, :, 0].tolist() == [0, 1, 6, 7]
    assert windows[1, :, 0].tolist() == [2, 3, 8, 9]  # to its right
    assert windows[3, :, 0].tolist() == [12, 13, 18, 19]  # below it


def test_whole_windows_are_not_copied():
    x = torch.randn(1, 14, 7, 3)
    assert pad_to_windows(x, 7) is x


def test_carriers_round_trip():
    nH, nW, c = 2, 3, 2
    carriers = torch.arange(2 * nH * c * nW * c).reshape(2, -1, 1)  # two images, raster order
    windowed = carriers_to_windows(carriers, c, (nH, nW))
    assert windowed[0, :, 0].tolist() == [0, 1, 6, 7]  # the first window's, of a 4 x 6 grid
    assert windowed[1, :, 0].tolist() == [2, 3, 8, 9]
    assert windowed[6, :, 0].tolist() == [24, 25, 30, 31]  # the second image
    assert torch.equal(windows_to_carriers(windowed, c, (nH, nW)), carriers)
