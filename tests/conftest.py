"""What several test files need: reference cases, real data, one image."""

import os
from pathlib import Path

import pytest
import torch

from fastervit_backbone import FasterViT
from tests.helpers import ROOT, lively


@pytest.fixture(autouse=True)
def seed() -> None:
    """The same random numbers in every run, whichever tests run."""
    torch.manual_seed(0)


@pytest.fixture
def real_data() -> Path:
    """The small real data sets, or a skip."""
    folder = Path(os.environ.get('FASTERVIT_DATA', ROOT.parent / 'shared' / 'data'))
    if not folder.is_dir():
        pytest.skip(f'no real data at {folder} (FASTERVIT_DATA)')
    return folder


@pytest.fixture
def nano() -> FasterViT:
    """A nano backbone with weights that make every part matter, in eval mode."""
    return lively(FasterViT('nano')).eval()
