"""Fixtures that several test files share."""

import gc
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch

from fastervit_backbone import FasterViT
from tests.helpers import ROOT, randomize

_NOT_UNIT = re.compile(r'\b(mmengine|mmcv|mmdet|mmseg|mmpretrain|mm_helpers|processes|subprocess|timm)\b')


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests as ``unit`` or ``long``.

    ``unit`` are those of files that name no toolkit and start no process; ``long`` those that the ids of
    ``short`` leave out.
    """

    @cache
    def is_unit(path: Path) -> bool:
        return not _NOT_UNIT.search(path.read_text())

    for item in items:
        if is_unit(item.path):
            item.add_marker(pytest.mark.unit)
        short = item.get_closest_marker('short')
        if short and not any(part in item.callspec.id for part in short.args):  # type: ignore[attr-defined]
            item.add_marker(pytest.mark.long)


def pytest_collection_finish() -> None:
    """Keep what was imported out of garbage collections: mmengine's take half a second each otherwise."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def seed() -> None:
    """Use the same random numbers in every test, whichever tests run."""
    torch.manual_seed(0)


@pytest.fixture
def real_data() -> Path:
    """Folder of the small real datasets; skips without it."""
    folder = Path(os.environ.get('FASTERVIT_DATA', ROOT.parent / 'shared' / 'data'))
    if not folder.is_dir():
        pytest.skip(f'no real data at {folder} (FASTERVIT_DATA)')
    return folder


@pytest.fixture
def small_files_only() -> Iterator[None]:
    """Writing more than 4 KiB to a file fails, as on a full disk."""
    resource = pytest.importorskip('resource')
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.fixture
def nano() -> FasterViT:
    """A nano backbone in eval mode, with weights that make every part matter."""
    return randomize(FasterViT('nano')).eval()
