import copy
import http.server
import os
import pickle
import subprocess
import sys
import threading
import time
from functools import partial

import pytest
import torch

from fastervit_backbone import ARCHS, ArchSpec, FasterViT
from fastervit_backbone.checkpoint import check_fit, convert_checkpoint, load_published
from fastervit_backbone.checkpoints.io import read_checkpoint, unwrap_state_dict, write_state_dict
from fastervit_backbone.utils.errors import CheckpointError
from tests.helpers import ROOT, ReferenceCase, lively

HAT = 'small_hat_224_propagation'


def save(content, path):
    torch.save(content, path)
    return path


@pytest.fixture
def case():
    return ReferenceCase(HAT)


def spec_of(case):
    return FasterViT(case.arch, out_norm=None)


WRAPPINGS = {
    'published': lambda s: dict(state_dict=s, epoch=1),
    'model': lambda s: dict(model=s),
    'bare': lambda s: s,
    'module.': lambda s: dict(state_dict={f'module.{k}': v for k, v in s.items()}),
}


@pytest.mark.parametrize('wrap', WRAPPINGS.values(), ids=WRAPPINGS.keys())
def test_every_wrapping_gives_the_same(case, wrap, tmp_path):
    state = case.published_file()['state_dict']
    expected, net = spec_of(case), spec_of(case)
    load_published(expected, dict(state_dict=state))
    load_published(net, save(wrap(state), tmp_path / 'x.pth.tar'))
    assert all(
        torch.equal(a, b)
        for a, b in zip(expected.state_dict().values(), net.state_dict().values(), strict=True)
    )


def test_report_is_one_line_that_accounts_for_everything(case):
    content = case.published_file()
    net = FasterViT(case.arch)
    report = load_published(net, content)
    derived = [
        k
        for k in content['state_dict']
        if k.endswith(('relative_bias', 'relative_coords_table', 'relative_position_index'))
    ]
    assert sorted(report.rebuilt) == sorted(derived)
    assert sorted(report.fresh) == sorted(n for n in net.state_dict() if n.startswith('out_norms.'))
    line = str(report)
    assert (
        '\n' not in line and f'{len(derived)} position buffers rebuilt' in line and '(norm.weight, ' in line
    )


@pytest.mark.parametrize('suffix', ['.safetensors', '.pth'])
def test_a_converted_file_knows_its_windows(tmp_path, suffix):
    """Weights of 4_21k_224 and 4_21k_384 look alike; a small stand-in keeps the test quick."""
    path = tmp_path / f'x{suffix}'
    net = FasterViT(ARCHS['nano'], out_norm=None)
    write_state_dict(net.state_dict(), path, {'arch': 'nano', 'source': 'x'})
    assert load_published(net, path).note == ''
    other = FasterViT('nano', out_norm=None, window_sizes=(7, 7, 14, 7), carrier_size=3)
    assert (
        load_published(other, path).note
        == 'window of stage 3 7 in the file, 14 here, carriers a side 2 in the file, 3 here'
    )


@pytest.mark.parametrize('metadata', ['4_21k_384', '4_21k_768'])
def test_our_4_21k_files_are_named_by_what_they_say(metadata):
    with torch.device('meta'):
        state = FasterViT('4_21k_224', out_norm=None).state_dict()
        net = FasterViT('4')
    with pytest.raises(CheckpointError, match=f"use arch='{metadata}'"):
        load_published(net, dict(state_dict=state, meta=dict(arch=metadata)))


@pytest.mark.parametrize('suffix', ['.safetensors', '.pth'])
def test_convert_then_init_cfg_reads_both_kinds(case, tmp_path, suffix):
    published = save(case.published_file(), tmp_path / 'published.pth.tar')
    converted = tmp_path / 'new' / f'ours{suffix}'
    report = convert_checkpoint(published, converted)
    assert [p.name for p in converted.parent.iterdir()] == [converted.name]  # no temporary left
    assert converted.stat().st_size < published.stat().st_size
    images, maps = case.images(), []
    for path in (published, converted):
        net = FasterViT(case.arch, init_cfg=dict(type='Pretrained', checkpoint=str(path))).eval()
        untouched = net.stem.conv1.weight.clone()
        net.init_weights()
        assert not torch.equal(untouched, net.stem.conv1.weight)
        with torch.no_grad():
            maps.append(net(images))
    assert all(torch.equal(a, b) for a, b in zip(*maps, strict=True))
    assert len(report.loaded) == len(unwrap_state_dict(read_checkpoint(converted)))


def test_detector_checkpoints_give_their_backbone(nano, tmp_path):
    state = {f'backbone.{k}': v for k, v in nano.state_dict().items()} | {'neck.conv.weight': torch.zeros(1)}
    path = save(dict(state_dict=state, meta=dict(epoch=3)), tmp_path / 'detector.pth')
    net = FasterViT('nano')
    report = load_published(net, path)
    assert report.dropped == ('neck.conv.weight',) and report.fresh == () and report.arch == 'nano'
    assert all(
        torch.equal(a, b) for a, b in zip(net.state_dict().values(), nano.state_dict().values(), strict=True)
    )


def test_a_detectors_backbone_converts_with_its_norms(nano, tmp_path):
    path = save(
        dict(state_dict={f'backbone.{k}': v for k, v in nano.state_dict().items()}), tmp_path / 'detector.pth'
    )
    convert_checkpoint(path, tmp_path / 'nano.safetensors')
    net = FasterViT('nano')
    assert load_published(net, tmp_path / 'nano.safetensors').fresh == ()
    assert all(
        torch.equal(a, b) for a, b in zip(net.state_dict().values(), nano.state_dict().values(), strict=True)
    )


def test_a_cut_backbone_loads_into_its_like(nano):
    cut = lively(FasterViT('nano', out_indices=(1, 2)))
    net = FasterViT('nano', out_indices=(1, 2))
    load_published(net, cut.state_dict())
    assert all(
        torch.equal(a, b) for a, b in zip(net.state_dict().values(), cut.state_dict().values(), strict=True)
    )
    with pytest.raises(CheckpointError, match=r'missing \(stages\.2\.downsample'):
        load_published(FasterViT('nano'), cut.state_dict())


def test_norms_of_another_kind_do_not_load_in_part(nano):
    with pytest.raises(CheckpointError, match=r'missing \(out_norms\.0\.running_mean'):
        load_published(FasterViT('nano', out_norm='bn'), nano.state_dict())


def test_fewer_outputs_drop_the_rest_by_name(nano):
    net = FasterViT('nano', out_indices=(1, 2))
    report = load_published(net, nano.state_dict())
    assert any(k.startswith('stages.3.') for k in report.dropped) and any(
        k.startswith('stages.2.downsample') for k in report.dropped
    )
    with torch.no_grad():
        images = torch.randn(1, 3, 97, 131)
        for a, b in zip(net.eval()(images), nano(images)[1:3], strict=True):
            assert torch.equal(a, b)


def test_other_windows_are_noted(case):
    net = FasterViT(case.arch, window_sizes=(7, 7, 14, 7))
    assert 'window of stage 3 7 in the file, 14 here' in load_published(net, case.published_file()).note


def meta_case(name):
    """A published file's keys with tensors that take no memory."""
    meta = ReferenceCase(name).meta['state_dict']
    return {k: torch.empty(shape, device='meta') for k, shape in meta.items() if 'to_global_feature' not in k}


@pytest.mark.parametrize(
    ('file', 'arch', 'told'),
    [
        ('faster_vit_4_224', '3', "16 heads in stage 3 where the model has 8.*arch='4'"),
        ('faster_vit_0_224', '2', "dim=64 where the model has 96.*arch='0'"),
        ('faster_vit_4_21k_384', '4', "no carrier tokens in stage 3.*arch='4_21k_384'"),
        ('faster_vit_6_224', '5', r"depths=\(3, 3, 16, 8\) where the model has \(3, 3, 12, 5\).*arch='6'"),
        ('small_hat_224', '0', 'no variant of the paper'),
    ],
)
def test_a_wrong_arch_is_named(file, arch, told):
    with torch.device('meta'):
        net = FasterViT(arch)
    with pytest.raises(CheckpointError, match=told) as error:
        load_published(net, meta_case(file))
    assert '\n' not in str(error.value)


def test_nothing_is_changed_by_a_file_that_does_not_fit(case):
    state = case.published_file()['state_dict']
    net = spec_of(case)
    before = copy.deepcopy(net.state_dict())
    lost = {k: v for k, v in state.items() if k != 'levels.2.blocks.1.attn.qkv.bias'}
    with pytest.raises(CheckpointError, match=r'1 missing \(stages\.2\.blocks\.1\.layer\.attn\.qkv\.bias\)'):
        load_published(net, lost)
    with pytest.raises(
        CheckpointError, match=r'1 tensor\(s\) that FasterViT has no place for: levels\.0\.blocks\.0\.gamma'
    ):
        load_published(net, state | {'levels.0.blocks.0.gamma': torch.ones(8)})
    with pytest.raises(CheckpointError, match=r'hold different values.*to_global_feature'):
        load_published(
            net, state | {'levels.2.global_tokenizer.to_global_feature.pos.bias': torch.full((32,), 9.0)}
        )
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


class Trap:
    def __reduce__(self):
        return (exec, ('raise SystemExit("code from a pickle ran")',))


def test_a_pickle_that_wants_to_run_code_is_refused(tmp_path):
    path = save(dict(state_dict={'x': torch.zeros(1)}, trap=Trap()), tmp_path / 'trap.pth')
    with pytest.raises(
        CheckpointError, match=r'refused to read .*trap\.pth: the pickle wants to run .*exec'
    ) as error:
        read_checkpoint(path)
    assert '\n' not in str(error.value)
    raw = tmp_path / 'raw.pth'
    raw.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(CheckpointError, match='refused to read'):
        read_checkpoint(raw)


@pytest.mark.parametrize(
    ('name', 'content', 'told'),
    [
        ('text.pth', b'this is no checkpoint\n', 'text.pth is not a checkpoint'),
        ('empty.pth', b'', 'empty.pth is not a checkpoint'),
        ('page.pth', b'<!DOCTYPE html><html>', 'page.pth is not a checkpoint'),
        ('pointer.pth', b'version https://git-lfs.github.com/spec/v1\n', 'pointer.pth is not a checkpoint'),
        ('list.pth', b'[1, 2, 3]', 'list.pth is not a checkpoint'),
        ('text.safetensors', b'this is no checkpoint\n', 'text.safetensors is not a checkpoint'),
        ('missing.pth', None, 'no checkpoint at .*missing.pth'),
    ],
)
def test_files_that_are_none(tmp_path, name, content, told):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=told) as error:
        read_checkpoint(path)
    assert '\n' not in str(error.value)


def test_half_a_file_is_none(tmp_path, nano):
    path = save(nano.state_dict(), tmp_path / 'x.pth')
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CheckpointError, match='not a checkpoint'):
        load_published(FasterViT('nano'), path)


def test_convert_refuses_and_leaves_nothing(tmp_path):
    stranger = save({'layer1.weight': torch.zeros(3)}, tmp_path / 'resnet.pth')
    with pytest.raises(CheckpointError, match=r'no FasterViT: layer1\.weight'):
        convert_checkpoint(stranger, tmp_path / 'out.safetensors')
    with pytest.raises(CheckpointError, match=r'must end in \.safetensors or \.pth'):
        convert_checkpoint(
            save(ReferenceCase(HAT).published_file(), tmp_path / 'p.pth'), tmp_path / 'out.bin'
        )
    assert sorted(p.name for p in tmp_path.iterdir()) == ['p.pth', 'resnet.pth']


def test_check_fit_of_a_whole_model():
    class Model(torch.nn.Module):
        def __init__(self, arch, classes):
            super().__init__()
            self.backbone, self.head = FasterViT(arch), torch.nn.Linear(4, classes)

    small = ArchSpec(dim=8, stem_dim=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 4))
    model = lively(Model(small, 3))
    state = model.state_dict()
    check_fit(model, state, 'x.pth')
    with pytest.raises(CheckpointError, match=r'head\.weight \(4, 4\), here \(3, 4\)'):
        check_fit(model, Model(small, 4).state_dict(), 'x.pth')
    check_fit(model, Model(small, 4).state_dict(), 'x.pth', partial=True)
    with pytest.raises(CheckpointError, match="arch='nano'"):
        check_fit(model, Model('nano', 3).state_dict(), 'x.pth')


def test_no_network_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    with pytest.raises(
        CheckpointError,
        match=r'cannot download http://127\.0\.0\.1:9/a\.pth .*put the file at .*a\.pth.*init_cfg=None',
    ):
        read_checkpoint('http://127.0.0.1:9/a.pth')


def test_archs_that_weights_cannot_tell_apart_are_not_guessed(tmp_path, monkeypatch):
    """The 4_21k archs differ in windows alone, of which a state dict has no trace."""
    small = dict(dim=8, stem_dim=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 4), hat=(False,) * 4)
    pair = {f'wide_{w}': ArchSpec(**small, window_sizes=(7, 7, w, w // 2)) for w in (14, 24)}
    monkeypatch.setattr('fastervit_backbone.checkpoints.infer_arch.ARCHS', pair)
    monkeypatch.setattr('fastervit_backbone.checkpoints.published.ARCHS', pair)
    net = lively(FasterViT(pair['wide_24']))
    report = load_published(FasterViT(pair['wide_24']), net.state_dict())
    assert report.arch == 'wide_14 or wide_24' and report.note == ''
    bare = save(net.state_dict(), tmp_path / 'bare.pth')
    assert convert_checkpoint(bare, tmp_path / 'bare.safetensors').arch == 'wide_14 or wide_24'
    assert 'arch' not in read_checkpoint(tmp_path / 'bare.safetensors')['meta']
    with pytest.raises(
        CheckpointError, match=r"dim=8 where the model has 32.*: use arch='wide_14' or 'wide_24'"
    ):
        load_published(FasterViT('nano'), net.state_dict())
    # mmengine's checkpoints keep the config as text
    config = "import os\nmodel = dict(type='X', backbone=dict(type='FasterViT', arch='wide_24'), head=dict(a=[1]))\nraise SystemExit\n"
    state = {f'backbone.{k}': v for k, v in net.state_dict().items()}
    trained = save(dict(state_dict=state, meta=dict(cfg=config)), tmp_path / 'epoch_1.pth')
    assert load_published(FasterViT(pair['wide_24']), trained).arch == 'wide_24'
    assert (
        'window of stage 3 24 in the file, 14 here'
        in load_published(FasterViT(pair['wide_14']), trained).note
    )
    convert_checkpoint(trained, tmp_path / 'trained.safetensors')
    assert read_checkpoint(tmp_path / 'trained.safetensors')['meta']['arch'] == 'wide_24'


def test_several_processes_download_once(tmp_path):
    """Without a process group, as before a training has begun: one fetches, the others wait for the file."""
    served = tmp_path / 'served'
    served.mkdir()
    save({'x': torch.arange(5.0)}, served / 'weights.pth')
    asked = []

    class Slow(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            time.sleep(1.5)
            super().do_GET()

    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), partial(Slow, directory=str(served))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        code = (
            'import sys\nfrom fastervit_backbone.checkpoints.io import read_checkpoint\n'
            f"print(read_checkpoint('http://127.0.0.1:{server.server_port}/weights.pth')['x'].sum().item())\n"
        )
        processes = []
        for rank in range(3):
            variables = dict(
                os.environ,
                TORCH_HOME=str(tmp_path / 'hub'),
                LOCAL_RANK=str(rank),
                RANK=str(rank),
                WORLD_SIZE='3',
            )
            variables['PYTHONPATH'] = str(ROOT)
            options = dict(env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            processes.append(subprocess.Popen([sys.executable, '-c', code], **options))
        done = [(*p.communicate(timeout=120), p.returncode) for p in processes]
        server.shutdown()
    assert [(out.splitlines()[-1], code) for out, _, code in done] == [('10.0', 0)] * 3, done
    assert asked == ['/weights.pth']
