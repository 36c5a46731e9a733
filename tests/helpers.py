"""Shared helpers without mm packages: reference cases, errors of tools, unusual images."""

import ast
import json
import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image

from fastervit_backbone import ArchSpec

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / 'tests' / 'reference'
CASCADE = ROOT / 'configs' / 'demo' / 'cascade_shapes.py'
UPERNET = CASCADE.with_name('upernet_shapes.py')
FPN = CASCADE.with_name('fpn_shapes.py')
#: The same with one block a stage.
SHALLOW_CASCADE = ROOT / 'tests' / 'configs' / 'cascade_shapes.py'
SHALLOW_FPN = SHALLOW_CASCADE.with_name('fpn_shapes.py')


def randomize(net: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Randomize all parameters and statistics: with initial weights the contribution of attention is tiny."""
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
    """Stored outputs of the published implementation for one variant on deterministic weights."""

    def __init__(self, name: str) -> None:
        self.numbers = np.load(REFERENCE / f'{name}.npz')
        self.meta = json.loads(str(self.numbers['meta']))

    @property
    def arch(self) -> str | ArchSpec:
        """The variant: a name, or the spec of a small case."""
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
        """Return the input images."""
        from tests.reference.deterministic_weights import reference_input

        batch, _, height, width = self.meta['input']
        return torch.from_numpy(reference_input(batch, height, width))

    def published_file(self) -> dict:
        """Return the content of a published ``.pth.tar`` file, with derived buffers and optimizer."""
        from argparse import Namespace

        from tests.reference.deterministic_weights import SKIPPED_SUFFIXES, reference_weight

        state = {}
        for key, shape in self.meta['state_dict'].items():
            if key.endswith('num_batches_tracked'):
                state[key] = torch.tensor(100)
            elif key.endswith(SKIPPED_SUFFIXES):
                state[key] = torch.full(shape, 123.0)  # derived: their values must not matter
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
TOLERANCE = 1e-5  # relative to the largest stored value
#: Without and with layer scales; the others are slow: they have up to 5 GB of weights.
QUICK_CASES = ('faster_vit_0_224', 'faster_vit_4_21k_224')
ALL_CONV = type(
    'AllConv', (dict,), {'__contains__': lambda self, key: True, '__getitem__': lambda self, key: 'conv'}
)()


def once(tmp_path_factory, name, make):
    """Return ``make(folder)``, made by the first process that asks; the others wait and read it."""
    root = tmp_path_factory.getbasetemp()
    folder = (root.parent if 'PYTEST_XDIST_WORKER' in os.environ else root) / f'once_{name}'
    result = folder.with_suffix('.pickle')
    with FileLock(folder.with_suffix('.lock')):
        if not result.exists():
            folder.mkdir()
            result.write_bytes(pickle.dumps(make(folder)))
        return pickle.loads(result.read_bytes())


def relative_error(ours: np.ndarray, stored: np.ndarray) -> float:
    assert ours.shape == stored.shape
    return float(np.abs(ours - stored).max() / np.abs(stored).max())


QUICK = ['train_dataloader.num_workers=0', 'val_dataloader.num_workers=0', 'test_dataloader.num_workers=0']
QUICK += [f'{split}_dataloader.persistent_workers=False' for split in ('train', 'val', 'test')]
#: The same for Python.
IN_PROCESS = {key: ast.literal_eval(value) for key, value in (option.split('=') for option in QUICK)}
#: Fewer regions than the demo has: what is trained here only has to be the same twice.
FEW_REGIONS = {
    'model.train_cfg.rpn_proposal.max_per_img': 50,
    **{f'model.train_cfg.rcnn.{stage}.sampler.num': 32 for stage in range(3)},
    'model.test_cfg.rpn.max_per_img': 30,
    'model.test_cfg.rcnn.max_per_img': 10,
}


def assert_one_line_error(done, message):
    assert done.returncode == 2, done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith('error: ')]
    assert len(lines) == 1 and re.search(message, lines[0]), done.stderr
    assert 'Traceback' not in done.stderr


def picture(size=(40, 60)):
    y, x = np.mgrid[: size[0], : size[1]]
    return np.stack([x * 4, y * 6, (x + y) * 2], 2).astype(np.uint8)


def odd_images(folder):
    """Write every kind of image file that users have; returns name -> whether it is readable."""
    folder.mkdir(parents=True, exist_ok=True)
    cv2 = pytest.importorskip('cv2')
    rgb = Image.fromarray(picture())
    rgb.save(folder / 'plain.jpg')
    rgb.convert('L').save(folder / 'grey.png')
    rgb.convert('RGBA').save(folder / 'alpha.png')
    rgb.convert('P').save(folder / 'palette.png')
    rgb.convert('1').save(folder / 'bilevel.png')
    rgb.convert('CMYK').save(folder / 'cmyk.jpg')
    rgb.save(folder / 'animated.webp')
    Image.fromarray(picture()[..., 0].astype(np.uint16) * 256).save(folder / 'deep.png')
    cv2.imwrite(str(folder / 'deep_colour.tif'), picture().astype(np.uint16) * 256)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: rotate by 90 degrees
    rgb.save(folder / 'turned.jpg', exif=exif)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8))
    noise.save(folder / 'whole.jpg')
    content = (folder / 'whole.jpg').read_bytes()
    (folder / 'cut.jpg').write_bytes(content[: len(content) // 2])
    (folder / 'words.png').write_text('not an image')
    (folder / 'empty.jpg').write_bytes(b'')
    bad = {'cut.jpg', 'words.png', 'empty.jpg'}
    return {p.name: p.name not in bad for p in folder.iterdir()}


def make_video(path, frames=7, size=(48, 64)):
    cv2 = pytest.importorskip('cv2')
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), 10, size[::-1])
    for i in range(frames):
        frame = np.full((*size, 3), 40, np.uint8)
        cv2.circle(frame, (10 + 6 * i, 24), 8, (60, 60, 220), -1)
        writer.write(frame)
    writer.release()
    return path
