import copy
import math
import pickle

import pytest
import torch

from fastervit_backbone.models.layers.position import AbsolutePosition, RelativeBias
from fastervit_backbone.models.layers.position_cache import PositionCache
from tests.helpers import randomize


def mlp(module, a, b):
    """Compute the position MLP manually, for one pair of coordinates."""
    hidden = [max(0.0, module.fc1.weight[k] @ torch.tensor([a, b]) + module.fc1.bias[k]) for k in range(512)]
    return module.fc2.weight @ torch.tensor(hidden)


@torch.no_grad()
@pytest.mark.parametrize('grid', [(2, 3), (1, 4), (7, 2)])
def test_absolute_position_equals_a_manual_computation(grid):
    module = randomize(AbsolutePosition(3))
    position = module(grid, 0, torch.float32)
    assert position.shape == (1, grid[0] * grid[1], 3)
    for i, j in [(0, 0), (grid[0] - 1, grid[1] - 1), (grid[0] // 2, 0)]:
        row = (i - grid[0] // 2) / max(grid[0] // 2, 1)
        col = (j - grid[1] // 2) / max(grid[1] // 2, 1)
        torch.testing.assert_close(position[0, i * grid[1] + j], mlp(module, row, col))


def log_offset(d, n):
    scaled = d / max(n - 1, 1) * 8
    return math.copysign(math.log2(abs(scaled) + 1) / math.log2(8), scaled)


@torch.no_grad()
@pytest.mark.parametrize('grid', [(2, 3), (1, 4), (3, 1)])
@pytest.mark.parametrize('prefix', [0, 4])
def test_relative_bias_equals_a_manual_computation(grid, prefix):
    module = randomize(RelativeBias(2))
    bias = module(grid, prefix, torch.float32)
    tokens = [(i, j) for i in range(grid[0]) for j in range(grid[1])]
    assert bias.shape == (1, 2, prefix + len(tokens), prefix + len(tokens))
    assert bias[:, :, :prefix].abs().sum() == bias[..., :prefix].abs().sum() == 0
    for q, (qi, qj) in enumerate(tokens):
        for k, (ki, kj) in enumerate(tokens):
            expected = 16 * torch.sigmoid(
                mlp(module, log_offset(qi - ki, grid[0]), log_offset(qj - kj, grid[1]))
            )
            torch.testing.assert_close(bias[0, :, prefix + q, prefix + k], expected, rtol=1e-5, atol=1e-5)


def test_bias_rows_are_aligned_for_the_cuda_kernel():
    bias = RelativeBias(2)((7, 7), 4, torch.float32)
    assert bias.shape[-1] == 53 and bias.stride(-2) % 8 == 0


def test_positions_stay_float32_under_autocast():
    module = randomize(RelativeBias(2))
    exact = module((3, 4), 0, torch.float32)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(module((3, 4), 0, torch.float32), exact)
    half = copy.deepcopy(module).bfloat16()
    # bf16 weights, float32 arithmetic
    torch.testing.assert_close(half((3, 4), 0, torch.float32), exact, rtol=0, atol=0.1)


@torch.no_grad()
def test_cache_is_bounded_and_starts_empty_in_copies():
    module = RelativeBias(1)
    cache = PositionCache(max_bytes=4 * 1000)
    assert cache.refresh([module]) is cache
    first = cache.get(module, (2, 2), 0, torch.float32)
    assert cache.get(module, (2, 2), 0, torch.float32) is first
    assert cache.get(module, (2, 2), 0, torch.bfloat16).dtype == torch.bfloat16
    for side in range(1, 30):
        cache.get(module, (1, side), 0, torch.float32)
        cache.refresh([module])
        assert 0 < cache.nbytes <= 4000
    large = cache.get(module, (30, 30), 0, torch.float32)
    assert large.shape[-1] == 900  # too large for the cache, but correct
    assert len(cache) and not len(copy.deepcopy(cache)) and not len(pickle.loads(pickle.dumps(cache)))


@torch.no_grad()
def test_a_forward_that_exceeds_the_bound_still_hits_in_part():
    """Twelve blocks of which eight fit: the eight must stay, not evict each other in turn."""
    modules = [RelativeBias(1) for _ in range(12)]
    size = modules[0]((4, 4), 0, torch.float32).nbytes
    cache = PositionCache(max_bytes=8 * size)
    for _ in range(3):
        cache.refresh(modules)
        results = [cache.get(m, (4, 4), 0, torch.float32) for m in modules]
    hits = [a is cache.get(m, (4, 4), 0, torch.float32) for a, m in zip(results, modules, strict=True)]
    assert sum(hits) == 8
    cache.refresh(modules)
    for m in modules[:8]:
        cache.get(m, (2, 8), 0, torch.float32)  # another image size: unused entries are evicted
    assert len(cache) == 8 and {key[1] for key in cache._entries} == {(2, 8)}


@pytest.mark.parametrize('arch', ['0', '4', '6', '4_21k_384', '4_21k_512'])
def test_the_bound_holds_the_windows_of_every_variant(arch):
    from fastervit_backbone import ARCHS

    spec = ARCHS[arch]
    size = spec.window_sizes[2] ** 2 + (spec.carrier_size**2 if spec.hat[2] else 0)
    entry = spec.num_heads[2] * size**2 * 4
    assert entry <= PositionCache().max_bytes // 4 and spec.depths[2] * entry <= PositionCache().max_bytes


WRITES = {
    'in place': lambda p: p.mul_(1.01),
    'other storage': lambda p: setattr(p, 'data', p.data * 1.01),
}


@torch.no_grad()
@pytest.mark.parametrize('write', WRITES.values(), ids=WRITES.keys())
@pytest.mark.parametrize('which', ['fc1.weight', 'fc1.bias', 'fc2.weight'])
def test_cache_sees_writes(write, which):
    module, cache = randomize(RelativeBias(2)), PositionCache()
    before = cache.refresh([module]).get(module, (3, 3), 0, torch.float32)
    write(module.get_parameter(which))
    after = cache.refresh([module]).get(module, (3, 3), 0, torch.float32)
    assert not torch.equal(before, after)
    assert torch.equal(after, module((3, 3), 0, torch.float32))
    assert cache.refresh([module]).get(module, (3, 3), 0, torch.float32) is after


@torch.no_grad()
def test_mmengines_ema_is_seen(nano):
    """It writes through ``.data`` without a new version; mmengine's loops then call eval() or train()."""
    pytest.importorskip('mmengine')
    from types import SimpleNamespace

    from mmengine.hooks import EMAHook
    from mmengine.runner import ValLoop

    hook = EMAHook(momentum=0.5)
    runner = SimpleNamespace(model=nano, iter=1, epoch=0, logger=None)
    hook.before_run(runner)
    hook.ema_model.update_parameters(nano)
    for p in nano.parameters():
        p.mul_(1.1)
    hook.ema_model.update_parameters(nano)  # half way between
    images = torch.randn(1, 3, 64, 96)
    first = nano.eval()(images)
    steps = []

    class Loader(list):
        dataset = (0,)

    loop = SimpleNamespace(
        runner=runner,
        dataloader=Loader([images]),
        val_loss={},
        evaluator=SimpleNamespace(evaluate=lambda count: {}),
    )
    loop.run_iter = lambda i, batch: steps.append(nano(batch))
    runner.call_hook = lambda name, **kwargs: getattr(hook, name)(runner)
    ValLoop.run(loop)
    fresh = copy.deepcopy(hook.ema_model.module).eval()(images)
    assert not torch.equal(steps[0][3], first[3])
    for a, b in zip(steps[0], fresh, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    for a, b in zip(nano.eval()(images), first, strict=True):  # its own weights are back
        torch.testing.assert_close(a, b, rtol=0, atol=0)
