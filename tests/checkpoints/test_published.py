import copy
import http.server
import json
import os
import pickle
import re
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from fastervit_backbone import ARCHS, ArchSpec, FasterViT
from fastervit_backbone.checkpoint import check_fit, convert_checkpoint, load_published
from fastervit_backbone.checkpoints import download
from fastervit_backbone.checkpoints.declared import declare, read_declared
from fastervit_backbone.checkpoints.io import read_checkpoint, unwrap_state_dict, write_state_dict
from fastervit_backbone.utils.errors import CheckpointError, UserError
from tests.helpers import ROOT, ReferenceCase, randomize

HAT = 'small_hat_224_propagation'


def save(content, path):
    torch.save(content, path)
    return path


@pytest.fixture
def case():
    return ReferenceCase(HAT)


def build(case):
    return FasterViT(case.arch, out_norm=None)


def assert_equal_states(net, other):
    states = net.state_dict().values(), other.state_dict().values()
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))


WRAPPINGS = {
    'published': lambda s: dict(state_dict=s, epoch=1),
    'model': lambda s: dict(model=s),
    'top level': lambda s: s,
    'module.': lambda s: dict(state_dict={f'module.{k}': v for k, v in s.items()}),
}


@pytest.mark.parametrize('wrap', WRAPPINGS.values(), ids=WRAPPINGS.keys())
def test_every_wrapping_gives_the_same(case, wrap, tmp_path):
    state = case.published_file()['state_dict']
    expected, net = build(case), build(case)
    load_published(expected, dict(state_dict=state))
    load_published(net, save(wrap(state), tmp_path / 'x.pth.tar'))
    assert_equal_states(expected, net)


def test_report_is_one_line_that_accounts_for_everything(case):
    content = case.published_file()
    net = FasterViT(case.arch)
    report = load_published(net, content)
    suffixes = ('relative_bias', 'relative_coords_table', 'relative_position_index')
    derived = [k for k in content['state_dict'] if k.endswith(suffixes)]
    assert sorted(report.rebuilt) == sorted(derived)
    assert sorted(report.fresh) == sorted(n for n in net.state_dict() if n.startswith('out_norms.'))
    line = str(report)
    assert '\n' not in line
    assert f'{len(derived)} position buffers rebuilt' in line and '(norm.weight, ' in line


@pytest.mark.parametrize('suffix', ['.safetensors', '.pth'])
def test_a_converted_file_declares_its_windows(tmp_path, suffix):
    """Weights of 4_21k_224 and 4_21k_384 have equal shapes; a small stand-in keeps the test fast."""
    path = tmp_path / f'x{suffix}'
    net = FasterViT(ARCHS['nano'], out_norm=None)
    write_state_dict(net.state_dict(), path, {'arch': 'nano', 'source': 'x'})
    assert load_published(net, path).note == ''
    other = FasterViT('nano', out_norm=None, window_sizes=(7, 7, 14, 7), carrier_size=3)
    note = (
        'window of stage 3: 7 in the file, 14 in the model, carriers per side: 2 in the file, 3 in the model'
    )
    assert load_published(other, path).note == note


@pytest.mark.parametrize('metadata', ['4_21k_384', '4_21k_768'])
def test_our_4_21k_files_are_named_by_their_metadata(metadata):
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


def test_the_backbone_of_a_detector_checkpoint_loads(nano, tmp_path):
    state = {f'backbone.{k}': v for k, v in nano.state_dict().items()} | {'neck.conv.weight': torch.zeros(1)}
    path = save(dict(state_dict=state, meta=dict(epoch=3)), tmp_path / 'detector.pth')
    net = FasterViT('nano')
    report = load_published(net, path)
    assert report.dropped == ('neck.conv.weight',) and report.fresh == () and report.arch == 'nano'
    assert_equal_states(net, nano)


def test_a_detectors_backbone_converts_with_its_norms(nano, tmp_path):
    state = {f'backbone.{k}': v for k, v in nano.state_dict().items()}
    path = save(dict(state_dict=state), tmp_path / 'detector.pth')
    convert_checkpoint(path, tmp_path / 'nano.safetensors')
    net = FasterViT('nano')
    assert load_published(net, tmp_path / 'nano.safetensors').fresh == ()
    assert_equal_states(net, nano)


def test_a_backbone_with_fewer_stages_loads_into_an_equal_one(nano):
    cut = randomize(FasterViT('nano', out_indices=(1, 2)))
    net = FasterViT('nano', out_indices=(1, 2))
    load_published(net, cut.state_dict())
    assert_equal_states(net, cut)
    with pytest.raises(CheckpointError, match=r'missing \(stages\.2\.downsample'):
        load_published(FasterViT('nano'), cut.state_dict())


def test_norms_of_another_kind_do_not_load_partially(nano):
    with pytest.raises(CheckpointError, match=r'missing \(out_norms\.0\.running_mean'):
        load_published(FasterViT('nano', out_norm='bn'), nano.state_dict())


def test_fewer_outputs_drop_the_rest_by_name(nano):
    net = FasterViT('nano', out_indices=(1, 2))
    report = load_published(net, nano.state_dict())
    for prefix in ('stages.3.', 'stages.2.downsample'):
        assert any(k.startswith(prefix) for k in report.dropped)
    with torch.no_grad():
        images = torch.randn(1, 3, 97, 131)
        for a, b in zip(net.eval()(images), nano(images)[1:3], strict=True):
            assert torch.equal(a, b)


def test_other_windows_are_noted(case):
    net = FasterViT(case.arch, window_sizes=(7, 7, 14, 7))
    note = load_published(net, case.published_file()).note
    assert 'window of stage 3: 7 in the file, 14 in the model' in note


def meta_case(name):
    """A published file's keys, with tensors that need no memory."""
    meta = ReferenceCase(name).meta['state_dict']
    return {k: torch.empty(shape, device='meta') for k, shape in meta.items() if 'to_global_feature' not in k}


@pytest.mark.parametrize(
    ('file', 'arch', 'message'),
    [
        ('faster_vit_4_224', '3', "16 heads in stage 3 where the model has 8.*arch='4'"),
        ('faster_vit_0_224', '2', "dim=64 where the model has 96.*arch='0'"),
        ('faster_vit_4_21k_384', '4', "no carrier tokens in stage 3.*arch='4_21k_384'"),
        ('faster_vit_6_224', '5', r"depths=\(3, 3, 16, 8\) where the model has \(3, 3, 12, 5\).*arch='6'"),
        ('small_hat_224', '0', 'not a variant of the paper'),
    ],
)
def test_a_wrong_arch_is_named(file, arch, message):
    with torch.device('meta'):
        net = FasterViT(arch)
    with pytest.raises(CheckpointError, match=message) as error:
        load_published(net, meta_case(file))
    assert '\n' not in str(error.value)


def test_nothing_is_changed_by_a_file_that_does_not_fit(case):
    state = case.published_file()['state_dict']
    net = build(case)
    before = copy.deepcopy(net.state_dict())
    incomplete = {k: v for k, v in state.items() if k != 'levels.2.blocks.1.attn.qkv.bias'}
    with pytest.raises(CheckpointError, match=r'1 missing \(stages\.2\.blocks\.1\.layer\.attn\.qkv\.bias\)'):
        load_published(net, incomplete)
    with pytest.raises(CheckpointError, match=r'has 1 unexpected tensor\(s\): levels\.0\.blocks\.0\.gamma'):
        load_published(net, state | {'levels.0.blocks.0.gamma': torch.ones(8)})
    alias = 'levels.2.global_tokenizer.to_global_feature.pos.bias'
    with pytest.raises(CheckpointError, match=r'to_global_feature.* hold different values'):
        load_published(net, state | {alias: torch.full((32,), 9.0)})
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


class Trap:
    def __reduce__(self):
        return (exec, ('raise SystemExit("code from a pickle ran")',))


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    path = save(dict(state_dict={'x': torch.zeros(1)}, trap=Trap()), tmp_path / 'trap.pth')
    refusal = r'refused to read .*trap\.pth: the pickle would run .*exec'
    with pytest.raises(CheckpointError, match=refusal) as error:
        read_checkpoint(path)
    assert '\n' not in str(error.value)
    raw = tmp_path / 'raw.pth'
    raw.write_bytes(pickle.dumps([Trap(), b'x' * 3000])[:-50])  # and damaged behind the code
    with pytest.raises(CheckpointError, match=r'refused to read .* the pickle would run .*exec'):
        read_checkpoint(raw)
    raw.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(CheckpointError, match='refused to read'):
        read_checkpoint(raw)


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
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
def test_files_that_are_not_checkpoints(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as error:
        read_checkpoint(path)
    assert '\n' not in str(error.value)


def test_half_a_file_is_not_a_checkpoint(tmp_path, nano):
    path = save(nano.state_dict(), tmp_path / 'x.pth')
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CheckpointError, match='not a checkpoint'):
        load_published(FasterViT('nano'), path)


def test_convert_refuses_and_leaves_nothing(tmp_path):
    resnet = save({'layer1.weight': torch.zeros(3)}, tmp_path / 'resnet.pth')
    with pytest.raises(CheckpointError, match=r'is not a FasterViT: layer1\.weight'):
        convert_checkpoint(resnet, tmp_path / 'out.safetensors')
    published = save(ReferenceCase(HAT).published_file(), tmp_path / 'p.pth')
    with pytest.raises(CheckpointError, match=r'must end in \.safetensors or \.pth'):
        convert_checkpoint(published, tmp_path / 'out.bin')
    assert sorted(p.name for p in tmp_path.iterdir()) == ['p.pth', 'resnet.pth']


def test_check_fit_of_a_whole_model():
    class Model(torch.nn.Module):
        def __init__(self, arch, classes):
            super().__init__()
            self.backbone, self.head = FasterViT(arch), torch.nn.Linear(4, classes)

    small = ArchSpec(dim=8, stem_dim=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 4))
    model = randomize(Model(small, 3))
    state = model.state_dict()
    check_fit(model, state, 'x.pth')
    with pytest.raises(CheckpointError, match=r'head\.weight \(4, 4\), expected \(3, 4\)'):
        check_fit(model, Model(small, 4).state_dict(), 'x.pth')
    check_fit(model, Model(small, 4).state_dict(), 'x.pth', partial=True)
    with pytest.raises(CheckpointError, match="arch='nano'"):
        check_fit(model, Model('nano', 3).state_dict(), 'x.pth')


def test_no_network_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    message = r'cannot download http://127\.0\.0\.1:9/a\.pth .*put the file at .*a-\w+\.pth.*init_cfg=None'
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint('http://127.0.0.1:9/a.pth')


HUB_URL = 'https://huggingface.co/ahatamiz/FasterViT/resolve/{}/{}'


@pytest.mark.parametrize(
    ('url', 'expected'),
    [
        (HUB_URL.format('main', 'x.pth.tar'), ('ahatamiz/FasterViT', 'main', 'x.pth.tar')),
        (HUB_URL.format('refs%2Fpr%2F1', 'a/b%20c.pth'), ('ahatamiz/FasterViT', 'refs/pr/1', 'a/b c.pth')),
        ('https://huggingface.co/gpt2/resolve/v1/x.pth?download=true', ('gpt2', 'v1', 'x.pth')),
        ('https://huggingface.co/datasets/a/resolve/main/x.pth', None),
        ('https://huggingface.co/datasets/a/b/resolve/main/x.pth', None),
        ('https://huggingface.co/ahatamiz/FasterViT', None),
        ('https://example.com/ahatamiz/FasterViT/resolve/main/x.pth', None),
    ],
)
def test_hub_urls_are_split(url, expected):
    assert download._split_hub_url(url) == expected


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """huggingface_hub with an empty cache and no network: a list of the calls, and what they return."""
    huggingface_hub = pytest.importorskip('huggingface_hub')
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    hub = SimpleNamespace(calls=[], cached=None, result=None)

    def download(repo_id, filename, *, revision):
        hub.calls.append((repo_id, filename, revision))
        if isinstance(hub.result, Exception):
            raise hub.result
        return str(hub.result)

    monkeypatch.setattr(huggingface_hub, 'hf_hub_download', download)
    monkeypatch.setattr(huggingface_hub, 'try_to_load_from_cache', lambda *args, revision: hub.cached)
    return hub


def test_hub_files_are_downloaded_by_huggingface_hub(hub, tmp_path):
    hub.result = save({'x': torch.arange(5.0)}, tmp_path / 'weights.pth.tar')
    url = HUB_URL.format('v1', 'folder/weights.pth.tar')
    assert read_checkpoint(url)['x'].sum() == 10
    assert hub.calls == [('ahatamiz/FasterViT', 'folder/weights.pth.tar', 'v1')]
    hub.cached = str(hub.result)
    assert read_checkpoint(url)['x'].sum() == 10 and len(hub.calls) == 1


def test_a_file_put_in_place_by_hand_comes_before_the_hub(hub, tmp_path):
    folder = tmp_path / 'torch' / 'hub' / 'checkpoints'
    folder.mkdir(parents=True)
    save({'x': torch.arange(3.0)}, folder / 'weights.pth')
    assert read_checkpoint(HUB_URL.format('main', 'weights.pth'))['x'].sum() == 3 and hub.calls == []


@pytest.mark.parametrize('error', [OSError('no route\nto host'), ValueError('no route to host')])
def test_a_failed_hub_download_is_one_line(hub, tmp_path, error):
    hub.result = error
    url = HUB_URL.format('main', 'weights.pth')
    place = tmp_path / 'torch' / 'hub' / 'checkpoints' / 'weights.pth'
    message = (
        f'cannot download {url} (no route to host): put the file at {place}, or train from scratch with '
    )
    with pytest.raises(CheckpointError, match=re.escape(message)) as raised:
        read_checkpoint(url)
    assert '\n' not in str(raised.value)


@pytest.mark.parametrize('suffix', ['.safetensors', '.pth'])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, suffix, small_files_only):
    with pytest.raises(UserError, match=rf'cannot write .*x\{suffix}: .*File too large') as error:
        write_state_dict({'x': torch.zeros(100_000)}, tmp_path / f'x{suffix}', {'source': 'x'})
    assert '\n' not in str(error.value) and list(tmp_path.iterdir()) == []


def test_archs_that_weights_cannot_distinguish_are_not_guessed(tmp_path, monkeypatch):
    """The 4_21k archs differ only in windows, which leave no trace in a state dict."""
    small = dict(dim=8, stem_dim=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 4), hat=(False,) * 4)
    pair = {f'wide_{w}': ArchSpec(**small, window_sizes=(7, 7, w, w // 2)) for w in (14, 24)}
    monkeypatch.setattr('fastervit_backbone.checkpoints.infer_arch.ARCHS', pair)
    monkeypatch.setattr('fastervit_backbone.checkpoints.declared.ARCHS', pair)
    monkeypatch.setattr('fastervit_backbone.models.arch.ARCHS', pair | {'nano': ARCHS['nano']})
    net = randomize(FasterViT(pair['wide_24']))
    report = load_published(FasterViT(pair['wide_24']), net.state_dict())
    assert report.arch == 'wide_14 or wide_24' and report.note == ''
    plain = save(net.state_dict(), tmp_path / 'plain.pth')
    assert convert_checkpoint(plain, tmp_path / 'plain.safetensors').arch == 'wide_14 or wide_24'
    assert 'arch' not in read_checkpoint(tmp_path / 'plain.safetensors')['meta']
    message = r"dim=8 where the model has 32.*: use arch='wide_14' or 'wide_24'"
    with pytest.raises(CheckpointError, match=message):
        load_published(FasterViT('nano'), net.state_dict())
    # mmengine's checkpoints keep the config as text
    model = "dict(type='X', backbone=dict(type='FasterViT', arch='wide_24'), head=dict(a=[1]))"
    config = f'import os\nmodel = {model}\nraise SystemExit\n'
    state = {f'backbone.{k}': v for k, v in net.state_dict().items()}
    trained = save(dict(state_dict=state, meta=dict(cfg=config)), tmp_path / 'epoch_1.pth')
    assert load_published(FasterViT(pair['wide_24']), trained).arch == 'wide_24'
    note = load_published(FasterViT(pair['wide_14']), trained).note
    assert 'window of stage 3: 24 in the file, 14 in the model' in note
    convert_checkpoint(trained, tmp_path / 'trained.safetensors')
    assert read_checkpoint(tmp_path / 'trained.safetensors')['meta']['arch'] == 'wide_24'


VARIANTS = {
    'narrow layers': dict(mlp_ratio=3.7),
    'windows': dict(window_sizes=(7, 7, 4, 2), carrier_size=1, propagation=True, layer_scale=1e-5),
    'attention everywhere': dict(conv=(False,) * 4, hat=(False, True, True, False), hat_every=2),
    'convolutions': dict(conv=(True,) * 4, hat=(False,) * 4),
    'higher carriers': dict(carrier_window=4),
    'swin': dict(conv=(False,) * 4, hat=(True,) * 4, stem='patch', downsample='merge', hat_every=2),
}


@pytest.mark.short('windows', 'higher', 'swin')
@pytest.mark.parametrize('fields', VARIANTS.values(), ids=VARIANTS.keys())
def test_every_variant_converts_and_says_what_it_is(fields, tmp_path):
    tiny = dict(dim=8, stem_dim=8, depths=(2, 2, 2, 2), num_heads=(1, 1, 2, 4))
    spec = ArchSpec(**tiny | fields)
    net = randomize(FasterViT(spec, in_chans=4)).eval()
    backbone = dict(type='FasterViT', arch=tiny | fields, in_chans=4)
    state = {f'backbone.{k}': v for k, v in net.state_dict().items()}
    trained = save(
        dict(state_dict=state, meta=dict(cfg=f'model = dict(backbone={backbone!r})')), tmp_path / 'e.pth'
    )
    for target in (tmp_path / 'a.safetensors', tmp_path / 'a.pth'):
        convert_checkpoint(trained, target)
        again = tmp_path / f'again{target.suffix}'
        convert_checkpoint(target, again)  # ours, too
        for path in (target, again):
            declared = read_declared(read_checkpoint(path)['meta'])
            assert declared.spec == spec and declared.in_chans == 4
            loaded = FasterViT(declared.spec, in_chans=declared.in_chans)
            assert load_published(loaded, path).note == ''
            assert_equal_states(loaded, net)


@pytest.mark.parametrize(
    ('field', 'trained', 'built'),
    [
        ('propagation', True, False),
        ('carrier_window', None, 4),
        ('hat_every', 1, 2),
    ],
)
def test_differences_without_a_trace_in_shapes_are_noted(field, trained, built, tmp_path):
    net = FasterViT(replace(ARCHS['nano'], **{field: trained}))
    path = tmp_path / 'x.safetensors'
    write_state_dict(net.state_dict(), path, declare(net.spec, 3))
    assert load_published(copy.deepcopy(net), path).note == ''
    if field != 'hat_every':  # whose blocks have no carriers
        note = load_published(FasterViT(replace(ARCHS['nano'], **{field: built})), path).note
        assert note == f'{field}: {trained} in the file, {built} in the model'


def test_whole_models_note_them_too(tmp_path, capsys):
    class Model(torch.nn.Module):
        def __init__(self, **options):
            super().__init__()
            self.backbone = FasterViT('nano', **options)

    model = Model(window_sizes=(7, 7, 4, 7))
    config = "model = dict(type='X', backbone=dict(type='FasterViT', arch='nano', window_sizes=(7, 7, 4, 7)))"
    check_fit(model, model.state_dict(), 'x.pth', meta=dict(cfg=config))
    assert capsys.readouterr() == ('', '')
    check_fit(Model(), model.state_dict(), 'x.pth', meta=dict(cfg=config))
    assert 'x.pth: window of stage 3: 4 in the file, 7 in the model' in ''.join(capsys.readouterr())


def test_other_channels_are_named(nano):
    with pytest.raises(CheckpointError, match='4 channels where the model has in_chans=3: use in_chans=4'):
        load_published(FasterViT('nano'), FasterViT('nano', in_chans=4).state_dict())


@pytest.mark.parametrize('written', ['{"dim": 8}', '{"size": 3}', '[1]', 'x', '{"dim": "a"}'])
def test_a_declaration_that_is_no_variant_is_one_line(nano, written):
    content = dict(state_dict=nano.state_dict(), meta=dict(arch_spec=written))
    with pytest.raises(CheckpointError, match='declares no variant that this version knows') as error:
        load_published(FasterViT('nano'), content)
    assert '\n' not in str(error.value)


def test_two_urls_that_end_alike_are_two_files(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'hub'))
    for run in (1, 2):
        (tmp_path / f'run{run}').mkdir()
        save({'x': torch.full((2,), float(run))}, tmp_path / f'run{run}' / 'best.pth')
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f'http://127.0.0.1:{server.server_port}/run%d/best.pth'
        assert [read_checkpoint(url % run)['x'][0].item() for run in (1, 2)] == [1, 2]
        server.shutdown()
    assert [read_checkpoint(url % run)['x'][0].item() for run in (1, 2)] == [1, 2]  # from their files
    bare = tmp_path / 'hub' / 'hub' / 'checkpoints' / 'best.pth'  # of anything else
    save({'x': torch.zeros(2)}, bare)
    assert read_checkpoint(url % 1)['x'][0] == 1


@pytest.mark.slow
def test_several_processes_download_once(tmp_path):
    """Without a process group, as before training: one downloads, the others wait for the file."""
    served = tmp_path / 'served'
    served.mkdir()
    save({'x': torch.arange(5.0)}, served / 'weights.pth')
    requests = []

    class Slow(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
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
            ranks = dict(LOCAL_RANK=str(rank), RANK=str(rank), WORLD_SIZE='3')
            variables = os.environ | ranks | dict(TORCH_HOME=str(tmp_path / 'hub'), PYTHONPATH=str(ROOT))
            options = dict(env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            processes.append(subprocess.Popen([sys.executable, '-c', code], **options))
        done = [(*p.communicate(timeout=120), p.returncode) for p in processes]
        server.shutdown()
    assert [(out.splitlines()[-1], code) for out, _, code in done] == [('10.0', 0)] * 3, done
    assert requests == ['/weights.pth']


def test_files_of_versions_whose_variants_had_more_fields(tmp_path):
    """Fields that no variant here has are left out where they have no effect, and named where they have."""
    former = dict(attention='hat', carrier_kernel=3, carrier_conv='depthwise', carrier_gate=False)
    net = randomize(FasterViT('nano')).eval()
    spec = asdict(net.spec) | former | dict(window_overlap=0)
    write_state_dict(net.state_dict(), tmp_path / 'old.safetensors', dict(arch_spec=json.dumps(spec)))
    assert read_declared(read_checkpoint(tmp_path / 'old.safetensors')['meta']).spec == net.spec
    report = load_published(FasterViT('nano'), tmp_path / 'old.safetensors')
    assert report.note == '' and report.arch == 'nano'
    spec['carrier_gate'] = True
    write_state_dict(net.state_dict(), tmp_path / 'gate.safetensors', dict(arch_spec=json.dumps(spec)))
    with pytest.raises(CheckpointError, match=r"declares no variant .*\['carrier_gate'\]"):
        load_published(FasterViT('nano'), tmp_path / 'gate.safetensors')
