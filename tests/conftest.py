"""What several test files need: reference cases, real data, one image."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from fastervit_backbone import ArchSpec, FasterViT

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = Path(__file__).resolve().parent / 'reference'


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


def lively(net: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Give every parameter and statistic a value that shows: fresh weights hide attention behind tiny numbers."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in [*net.named_parameters(), *net.named_buffers()]:
            if not p.is_floating_point():
                continue
            if p.ndim > 1:
                p.normal_(0, 1.2 / p[0].numel() ** 0.5, generator=generator)
            elif name.endswith('running_mean') or name.endswith('bias'):
                p.uniform_(-0.2, 0.2, generator=generator)
            else:
                p.uniform_(0.5, 1.5, generator=generator)
    return net


class ReferenceCase:
    """What the published implementation returned for one variant on deterministic weights."""

    def __init__(self, name: str) -> None:
        self.numbers = np.load(REFERENCE / f'{name}.npz')
        self.meta = json.loads(str(self.numbers['meta']))

    @property
    def arch(self) -> str | ArchSpec:
        """The variant: a name, or the spec of a small one."""
        config = self.meta['config']
        if not config:
            name = self.meta['case'].removeprefix('faster_vit_')
            return name if '21k' in name else name.removesuffix('_224')
        return ArchSpec(
            dim=config['dim'],
            stem_dim=config['in_dim'],
            depths=config['depths'],
            num_heads=config['num_heads'],
            window_sizes=config['window_size'],
            carrier_size=config['ct_size'],
            hat=config['hat'],
            layer_scale=config.get('layer_scale'),
            propagation=config.get('do_propagation', False),
            mlp_ratio=config['mlp_ratio'],
        )

    def images(self) -> torch.Tensor:
        """The input."""
        from tests.reference.deterministic_weights import reference_input

        batch, _, height, width = self.meta['input']
        return torch.from_numpy(reference_input(batch, height, width))

    def published_file(self) -> dict:
        """The weights as the published ``.pth.tar`` files have them: derived buffers, counters, classifier, optimizer and all."""
        from argparse import Namespace

        from tests.reference.deterministic_weights import SKIPPED_SUFFIXES, reference_weight

        state = {}
        for key, shape in self.meta['state_dict'].items():
            if key.endswith('num_batches_tracked'):
                state[key] = torch.tensor(100)
            elif key.endswith(SKIPPED_SUFFIXES):
                state[key] = torch.full(shape, 123.0)  # derived: whatever is in them must not matter
            else:
                state[key] = torch.from_numpy(np.asarray(reference_weight(key, tuple(shape))))
        return dict(
            state_dict=state,
            epoch=300,
            arch='faster_vit',
            args=Namespace(lr=5e-3),
            metric=82.1,
            optimizer=dict(state={}),
        )


SMALL_CASES = sorted(p.stem for p in REFERENCE.glob('small_*.npz'))
PAPER_CASES = sorted(p.stem for p in REFERENCE.glob('faster_vit_*.npz'))
