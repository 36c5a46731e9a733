import copy
import inspect
import pickle
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastervit_backbone import ARCHS, ArchSpec, FasterViT
from tests.helpers import randomize

SIZES = [(32, 32), (33, 470), (97, 131), (224, 224), (480, 640), (800, 1333), (1333, 800), (512, 2048)]
TINY = dict(dim=8, stem_dim=8, depths=(1, 1, 2, 1), num_heads=(1, 1, 2, 4))


def expected_shapes(net, batch, height, width):
    strides_channels = zip(net.out_strides, net.out_channels, strict=True)
    return [(batch, c, -(-height // s), -(-width // s)) for s, c in strides_channels]


@torch.no_grad()
def test_one_model_takes_sizes_in_any_order(nano):
    keys = {k: v.shape for k, v in nano.state_dict().items()}
    attributes = {n: set(vars(m)) for n, m in nano.named_modules()}
    first = [m.clone() for m in nano(torch.ones(1, 3, *SIZES[2]))]
    for height, width in SIZES + SIZES[::-3]:
        maps = nano(torch.randn(1, 3, height, width))
        assert [tuple(m.shape) for m in maps] == expected_shapes(nano, 1, height, width)
    assert {k: v.shape for k, v in nano.state_dict().items()} == keys
    assert {n: set(vars(m)) for n, m in nano.named_modules()} == attributes
    assert all(torch.equal(a, b) for a, b in zip(first, nano(torch.ones(1, 3, *SIZES[2])), strict=True))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    height=st.integers(32, 260),
    width=st.integers(32, 260),
    window=st.sampled_from([(7, 7), (4, 3), (14, 7), (5, 12)]),
    carrier=st.sampled_from([1, 2, 3]),
    hat=st.sampled_from([(False, False, True, False), (False,) * 4, (False, False, True, True)]),
)
def test_any_size_any_window(height, width, window, carrier, hat):
    net = FasterViT(ArchSpec(**TINY, window_sizes=(7, 7, *window), carrier_size=carrier, hat=hat)).eval()
    with torch.no_grad():
        maps = net(torch.randn(1, 3, height, width))
    assert [tuple(m.shape) for m in maps] == expected_shapes(net, 1, height, width)
    assert all(m.isfinite().all() for m in maps)


@torch.no_grad()
@pytest.mark.parametrize('size', [(97, 131), (224, 224)])
def test_a_batch_is_its_images(nano, size):
    images = torch.randn(3, 3, *size)
    together = nano(images)
    for i in range(3):
        for batched, single in zip(together, nano(images[i : i + 1]), strict=True):
            torch.testing.assert_close(batched[i : i + 1], single, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_carriers_see_the_whole_image_windows_do_not():
    """A change in one corner reaches the far corner of stage 3 only through carriers."""
    for hat, reaches in (((False, False, True, False), True), ((False,) * 4, False)):
        net = randomize(FasterViT(ArchSpec(**TINY, hat=hat), out_norm=None)).eval()
        images = torch.randn(1, 3, 448, 448)
        changed = images.clone()
        changed[..., :64, :64] += 1
        difference = (net(images)[2] - net(changed)[2]).abs()
        far = difference[..., -7:, -7:].max()
        assert far > 1e-6 if reaches else far == 0
        assert difference[..., :7, :7].max() > 1e-3


@pytest.mark.short('0', 'nano')
@torch.no_grad()
@pytest.mark.parametrize('arch', ARCHS)
def test_declared_outputs_on_meta(arch):
    with torch.device('meta'):
        net = FasterViT(arch, out_indices=(1, 3)).eval()
        maps = net(torch.empty(2, 3, 97, 131))
    assert [tuple(m.shape) for m in maps] == expected_shapes(net, 2, 97, 131)
    assert net.out_channels == (net.spec.dim * 2, net.spec.dim * 8)
    assert net.out_strides == (8, 32)


def test_every_parameter_gets_a_gradient():
    for out_indices in [(0, 1, 2, 3), (2,), (0, 3)]:
        net = randomize(
            FasterViT(ArchSpec(**TINY, layer_scale=1e-5, propagation=True), out_indices=out_indices)
        )
        sum((m * torch.randn_like(m)).sum() for m in net(torch.randn(2, 3, 97, 131))).backward()
        assert [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_hooks_change_no_gradient():
    """Full backward hooks turn results into views, which must not be overwritten."""
    gradients, seen = [], []
    for hooked in (False, True):
        torch.manual_seed(0)
        net = FasterViT('nano', drop_path_rate=0.0).train()
        for name, module in net.named_modules() if hooked else ():
            module.register_full_backward_hook(lambda *_, name=name: seen.append(name))
        sum(
            y.square().sum()
            for y in net(torch.randn(2, 3, 65, 97, generator=torch.Generator().manual_seed(1)))
        ).backward()
        gradients.append([p.grad for p in net.parameters()])
    assert len(seen) > 50
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize('norm_eval', [False, True])
def test_checkpointing_gives_the_same_gradients_and_statistics(norm_eval):
    images = torch.randn(2, 3, 97, 131)
    nets = [
        randomize(FasterViT(ArchSpec(**TINY), with_cp=with_cp, norm_eval=norm_eval, drop_path_rate=0.3))
        for with_cp in (False, True)
    ]
    for net in nets:
        torch.manual_seed(1)  # drop path
        sum((m * torch.randn_like(m)).sum() for m in net(images)).backward()
    for (name, a), b in zip(nets[0].named_parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=name)
    for (name, a), b in zip(nets[0].named_buffers(), nets[1].buffers(), strict=True):
        assert torch.equal(a, b), name  # a batch counts once although its blocks ran twice


@pytest.mark.parametrize('frozen', range(-1, 5))
def test_frozen_stages_stay_frozen(frozen):
    torch.manual_seed(0)
    net = randomize(FasterViT(ArchSpec(**TINY), frozen_stages=frozen))
    assert net.train() is net and net.eval() is net and net.train().training
    before = copy.deepcopy(net.state_dict())
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 1.0)
    sum((m * torch.randn_like(m)).sum() for m in net(torch.randn(2, 3, 64, 96))).backward()
    optimizer.step()
    frozen_prefixes = () if frozen < 0 else ('stem.', *(f'stages.{i}.' for i in range(frozen)))
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith(frozen_prefixes), name


def test_frozen_as_a_whole_nothing_changes():
    net = FasterViT(ArchSpec(**TINY), frozen_stages=5, out_norm='bn')
    before = copy.deepcopy(net.state_dict())
    net.train()(torch.randn(2, 3, 64, 96))
    assert not any(p.requires_grad for p in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_norm_eval_keeps_the_trunks_statistics_only():
    net = FasterViT(ArchSpec(**TINY), norm_eval=True, out_norm='bn')
    before = copy.deepcopy(net.state_dict())
    net.train()(torch.randn(2, 3, 64, 64))
    changed = [n for n, v in net.state_dict().items() if not torch.equal(v, before[n])]
    assert changed and all(n.startswith('out_norms.') for n in changed)
    assert all(p.requires_grad for p in net.parameters())


@torch.no_grad()
@pytest.mark.parametrize('out_norm', ['ln', 'bn', None])
def test_output_norms(out_norm):
    plain = randomize(FasterViT(ArchSpec(**TINY), out_norm=None)).eval()
    net = FasterViT(ArchSpec(**TINY), out_norm=out_norm).eval()
    net.load_state_dict(plain.state_dict(), strict=False)
    images = torch.randn(1, 3, 64, 96)
    for raw, m in zip(plain(images), net(images), strict=True):
        if out_norm == 'ln':
            raw = (raw - raw.mean(1, keepdim=True)) / (raw.var(1, unbiased=False, keepdim=True) + 1e-6).sqrt()
        elif out_norm == 'bn':
            raw = raw / (1 + 1e-5) ** 0.5  # initial statistics: mean 0, variance 1
        torch.testing.assert_close(m, raw, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_memory_format_follows_the_caller(nano):
    """mmcv's RoIAlign silently misreads channels-last maps: contiguous images must give contiguous maps."""
    images = torch.randn(2, 3, 97, 131)
    contiguous = nano(images)
    formats = []

    def record(module, inputs, output):
        formats.append(output.is_contiguous(memory_format=torch.channels_last))

    hooks = [stage.register_forward_hook(record) for stage in nano.stages[:2]]
    last = nano(images.to(memory_format=torch.channels_last))
    assert formats == [True, True] and len(hooks) == 2
    assert all(m.is_contiguous() for m in contiguous)
    assert all(m.is_contiguous(memory_format=torch.channels_last) for m in last)
    for a, b in zip(contiguous, last, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_positions_are_never_stale(nano):
    """Cached positions must follow every way of changing weights while in eval mode."""
    images = torch.randn(1, 3, 97, 131)

    def fresh(net):
        clone = FasterViT('nano').eval()
        clone.load_state_dict(net.state_dict())
        return clone(images)

    def optimizer_step(net):
        with torch.enable_grad():
            optimizer = torch.optim.AdamW(net.parameters(), 0.01)
            net(images)[-1].sum().backward()
            optimizer.step()

    def ema_copy(net):
        for p, q in zip(net.parameters(), randomize(FasterViT('nano'), seed=3).parameters(), strict=True):
            p.data.mul_(0.9).add_(q.data, alpha=0.1)
        net.eval()  # like mmengine's loops after writes through .data

    def swap(net):
        for p in net.parameters():
            tmp = p.data.clone()
            p.data.copy_(p.data * 0.95)
            tmp.zero_()
        net.eval()

    changes = dict(
        optimizer_step=optimizer_step,
        load_state_dict=lambda net: net.load_state_dict(randomize(FasterViT('nano'), seed=5).state_dict()),
        to=lambda net: net.to(torch.bfloat16).to(torch.float32),
        ema_copy=ema_copy,
        swap=swap,
    )
    nano(images)
    assert len(nano.stages[2].cache) and len(nano.stages[3].cache)
    for name, change in changes.items():
        before = nano(images)
        change(nano)
        after = nano(images)
        assert not torch.equal(before[-1], after[-1]), name
        for a, b in zip(after, fresh(nano), strict=True):
            assert torch.equal(a, b), name


@torch.no_grad()
def test_cached_equals_computed_and_training_caches_nothing(nano):
    images = torch.randn(1, 3, 97, 131)
    once, again = nano(images), nano(images)
    assert len(nano.stages[2].cache)
    with torch.enable_grad():
        computed = nano(images)
    for a, b, c in zip(once, again, computed, strict=True):
        assert torch.equal(a, b)
        torch.testing.assert_close(a, c, rtol=1e-4, atol=1e-4)  # gradients select another attention kernel
    nano.train()
    nano(images)
    assert not len(nano.stages[2].cache)


def test_copies_and_pickles_work_at_any_time(nano):
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        nano(images)
    nano.train()
    optimizer = torch.optim.SGD(nano.parameters(), 0.01)
    sum((m * torch.randn_like(m)).sum() for m in nano(images)).backward()
    optimizer.step()
    clone, pickled = copy.deepcopy(nano).eval(), pickle.loads(pickle.dumps(nano)).eval()
    nano.eval()
    with torch.no_grad():
        for a, b, c in zip(nano(images), clone(images), pickled(images), strict=True):
            assert torch.equal(a, b) and torch.equal(a, c)


@torch.no_grad()
def test_bf16_autocast_is_close_to_float32(nano):
    images = torch.randn(2, 3, 97, 131)
    exact = nano(images)
    with torch.autocast('cpu', torch.bfloat16):
        rough = nano(images)
    for a, b in zip(exact, rough, strict=True):
        error = (a - b.float()).abs()
        # maps have unit variance (output LayerNorm); bf16 has 8 bits: 0.4% per rounding, 20 layers
        assert error.mean() < 0.015 and error.max() < 0.15


@torch.no_grad()
def test_pure_bf16(nano):
    images = torch.randn(1, 3, 64, 96)
    exact = nano(images)
    rough = copy.deepcopy(nano).bfloat16()(images.bfloat16())
    assert all(m.dtype == torch.bfloat16 for m in rough)
    assert all((a - b.float()).abs().mean() < 0.05 for a, b in zip(exact, rough, strict=True))


@pytest.mark.short('False-False')
@torch.no_grad()
@pytest.mark.parametrize(
    ('mode', 'grad'),
    [(False, False), (True, True), *(pytest.param(m, not m, marks=pytest.mark.slow) for m in (False, True))],
)
def test_the_whole_backbone_is_one_graph(nano, mode, grad):
    torch._dynamo.reset()
    nano.train(mode)
    with torch.set_grad_enabled(grad):
        explained = torch._dynamo.explain(nano)(torch.randn(2, 3, 64, 96))
    assert (explained.graph_count, explained.graph_break_count) == (1, 0), explained.break_reasons


@pytest.mark.slow
@pytest.mark.parametrize('training', [False, True])
def test_compiled_for_dynamic_sizes(training):
    """Values, and in training gradients, are those of eager mode; sizes of other paddings compile again."""
    torch._dynamo.reset()
    net = randomize(FasterViT(ArchSpec(**{**TINY, 'depths': (1, 1, 1, 1)}))).train(training)
    again = copy.deepcopy(net)
    compiled = torch.compile(again, backend='aot_eager', dynamic=True)
    for size in ((64, 96), (97, 131), (224, 35)):
        images = torch.randn(2, 3, *size)
        with torch.set_grad_enabled(training):
            expected, found = net(images), compiled(images)
            for a, b in zip(expected, found, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
            if training:
                for maps in (expected, found):
                    sum(m.square().mean() for m in maps).backward()
    for (name, a), b in zip(net.named_parameters(), again.parameters(), strict=True):
        if training and a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize('backend', ['aot_eager', 'inductor'])
def test_compiled_equals_eager_at_two_sizes(backend):
    net = randomize(FasterViT(ArchSpec(**{**TINY, 'depths': (1, 1, 1, 1)}))).eval()
    compiled = torch.compile(net, backend=backend)
    for size in [(64, 96), (97, 131)]:
        images = torch.randn(1, 3, *size)
        for a, b in zip(net(images), compiled(images), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        (dict(arch='7'), ValueError, "'7'.*expected one of.*4_21k_768"),
        (dict(arch=dict(**TINY, head=2)), TypeError, 'head'),
        (dict(arch=dict(**{**TINY, 'depths': (1, 2)})), ValueError, r'depths=\(1, 2\)'),
        (
            dict(arch=dict(**{**TINY, 'num_heads': (1, 1, 3, 4)})),
            ValueError,
            '32 channels, which is not divisible by 3 heads',
        ),
        (dict(arch=dict(**TINY, hat=(True, False, True, False))), ValueError, 'stage 1 is convolutional'),
        (dict(arch='nano', out_indices=(3, 1)), ValueError, r'\(3, 1\)'),
        (dict(arch='nano', out_indices=(0, 4)), ValueError, r'\(0, 4\)'),
        (dict(arch='nano', frozen_stages=6), ValueError, 'got 6'),
        (dict(arch='nano', out_norm='gn'), ValueError, "'gn'"),
        (dict(arch='nano', drop_path_rate=1.0), ValueError, r'1\.0'),
        (dict(arch='nano', out_indices=(0,), drop_path_rate=1.5), ValueError, r'1\.5'),
        (dict(arch='nano', carrier_size=0), ValueError, 'carrier_size=0'),
        (dict(arch=dict(**TINY, stem='swin')), ValueError, "stem must be one of .*'swin'"),
        (dict(arch=dict(**TINY, hat_every=0)), ValueError, 'hat_every must be at least 1'),
        (dict(arch='nano', init_cfg=dict(type='Kaiming')), ValueError, 'Kaiming'),
        (dict(arch='nano', use_checkpoint=True), TypeError, 'use_checkpoint'),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        FasterViT(**arguments)


def test_options_are_keyword_only_without_kwargs():
    parameters = inspect.signature(FasterViT.__init__).parameters.values()
    assert [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD] == ['self', 'arch']
    assert not any(p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in parameters)
    options = 'out_indices drop_path_rate frozen_stages adapters norm_eval with_cp out_norm window_sizes'
    options += ' carrier_size carrier_window'
    names = [*options.split(), 'in_chans', 'init_cfg']
    assert [p.name for p in parameters if p.kind is p.KEYWORD_ONLY] == names


def test_arch_as_name_spec_dict_or_number():
    spec = ARCHS['4']
    numbers = dict(dim=196, stem_dim=64, depths=[3, 3, 12, 5], num_heads=[4, 8, 16, 32])
    for arch in ('4', 4, spec, dict(**numbers, layer_scale=1e-5, propagation=True)):
        with torch.device('meta'):
            assert FasterViT(arch).spec == spec
    with torch.device('meta'):
        net = FasterViT('0', window_sizes=(7, 7, 14, 7), carrier_size=3, in_chans=4)
    assert net.spec.window_sizes[2] == 14 and net.spec.carrier_size == 3 and net.stem.conv1.in_channels == 4


def test_too_small_images_are_named():
    with pytest.raises(ValueError, match=r'at least 32, got \(1, 3, 31, 64\)'):
        FasterViT('nano')(torch.zeros(1, 3, 31, 64))


ONLY_TORCH = """
import sys

BLOCKED = 'numpy mmengine mmcv mmdet mmseg timm safetensors huggingface_hub torchvision PIL'.split()
BLOCKED += ['pycocotools', 'cv2']

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in BLOCKED:
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Block())
import torch, fastervit_backbone, fastervit_backbone.checkpoint, fastervit_backbone.models.layer_decay
print(fastervit_backbone.FasterViT('nano')(torch.zeros(1, 3, 32, 32))[0].shape[1])
"""


def test_imports_with_only_torch():
    """Importing, building and running need no mm package, timm or safetensors."""
    done = subprocess.run([sys.executable, '-c', ONLY_TORCH], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip() == '32', done.stderr
