"""Every kind of block that a spec can ask for: training, any size, several processes, copies, bf16."""

import copy

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from fastervit_backbone import ArchSpec, FasterViT
from fastervit_paper import FasterViTVariant
from tests.helpers import randomize
from tests.models.test_variants import TINY
from tests.paper.test_variants import IMPROVEMENTS

NONE, ALL = (False,) * 4, (True,) * 4
KINDS = {
    'attention in all stages': dict(conv=NONE),
    'Swin with carriers': dict(
        conv=NONE, hat=ALL, hat_every=2, stem='patch', downsample='merge', depths=(2, 2, 2, 2)
    ),
    'Twins': dict(hat=NONE, attention='twins'),
    'EdgeViT': dict(hat=NONE, attention='edgevit'),
    'carriers of higher order': dict(carrier_window=4),
    'more carriers than tokens': dict(carrier_size=4),
    'propagation': dict(propagation=True, layer_scale=0.1),
    'all improvements': {k: v for options in IMPROVEMENTS.values() for k, v in options.items()},
}
every_kind = pytest.mark.parametrize('kind', KINDS)


def build(kind, **options):
    torch.manual_seed(0)
    changes = dict(KINDS[kind])
    exchanged = {k: changes.pop(k) for k in list(changes) if k not in ArchSpec.__dataclass_fields__}
    spec = ArchSpec(**TINY | changes)
    return FasterViTVariant(spec, **exchanged, **options) if exchanged else FasterViT(spec, **options)


@pytest.mark.short('Swin with carriers', 'propagation')
@every_kind
def test_it_learns_at_changing_sizes(kind):
    """Tell three textures apart: the loss falls to a third, and every parameter gets a gradient."""
    net, head = build(kind, out_indices=(3,)), torch.nn.Linear(64, 3)
    parameters = [*net.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=3e-3)
    touched = set()
    losses = []
    for step in range(40):
        height, width = ((64, 96), (97, 64), (96, 130))[step % 3]
        labels = torch.tensor([0, 1, 2, 0, 1, 2])
        rows, columns = torch.arange(height)[:, None], torch.arange(width)
        waves = [
            torch.sin(rows / 3 + columns * 0),
            torch.sin(columns / 3 + rows * 0),
            torch.sin((rows + columns) / 5),
        ]
        images = torch.stack([waves[i] for i in labels])[:, None].repeat(1, 3, 1, 1)
        images += 0.1 * torch.randn(images.shape)
        loss = torch.nn.functional.cross_entropy(head(net(images)[0].mean((2, 3))), labels)
        optimizer.zero_grad()
        loss.backward()
        touched |= {name for name, p in net.named_parameters() if p.grad is not None and p.grad.any()}
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-6:]) < sum(losses[:6]) / 3, losses
    assert touched == {name for name, _ in net.named_parameters()}


@pytest.mark.short('Swin with carriers', 'propagation')
@every_kind
@torch.no_grad()
def test_copies_deploy_mode_and_bf16(kind):
    net = randomize(build(kind)).eval()
    for size in ((32, 32), (65, 97), (160, 96)):
        images = torch.randn(1, 3, *size)
        maps = net(images)
        for other in (copy.deepcopy(net), net.deploy(), net.deploy(size)):
            for a, b in zip(maps, other(images), strict=True):
                assert (a - b).abs().max() <= 1e-5 * a.abs().max()
        with torch.autocast('cpu', torch.bfloat16):
            half = net(images)
        for a, b in zip(maps, half, strict=True):
            assert (a - b).norm() < 0.2 * a.norm()


def _one_step(rank, folder):
    """Run one backward of every kind on images of a size that differs by process, and save the gradients."""
    dist.init_process_group('gloo', f'file://{folder}/rendezvous', rank=rank, world_size=2)
    torch.set_num_threads(1)
    for i, kind in enumerate(KINDS):
        net = DistributedDataParallel(build(kind))
        images = torch.randn(
            1, 3, *((64, 96), (97, 130))[rank], generator=torch.Generator().manual_seed(rank)
        )
        sum(m.square().mean() for m in net(images)).backward()
        torch.save([p.grad for p in net.parameters()], f'{folder}/{i}_{rank}.pt')
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_with_different_sizes(tmp_path):
    """No parameter is left out in either, and both get the mean of the two gradients."""
    mp.spawn(_one_step, (str(tmp_path),), 2)
    for i, kind in enumerate(KINDS):
        first, second = (torch.load(tmp_path / f'{i}_{rank}.pt') for rank in (0, 1))
        expected = [torch.zeros_like(p) for p in build(kind).parameters()]
        for rank in (0, 1):
            net = build(kind)
            generator = torch.Generator().manual_seed(rank)
            images = torch.randn(1, 3, *((64, 96), (97, 130))[rank], generator=generator)
            sum(m.square().mean() for m in net(images)).backward()
            for total, p in zip(expected, net.parameters(), strict=True):
                total += p.grad / 2
        for a, b, c in zip(first, second, expected, strict=True):
            assert torch.equal(a, b)
            torch.testing.assert_close(a, c, rtol=1e-3, atol=1e-6)
