"""Files from elsewhere run no code and write nothing: each attack has a canary that must not appear."""

import json
import os
import shutil
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from PIL import Image

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

from mmengine.config import Config
from safetensors.torch import load_file, save_file

from fastervit_backbone.engine.config.data_only import parse_data_config, read_data_config
from fastervit_backbone.engine.config.load import load_config
from fastervit_backbone.engine.config.write import as_python
from fastervit_backbone.engine.runner.work_dir import find_checkpoint
from fastervit_backbone.evaluate import evaluate
from fastervit_backbone.export.run import export
from fastervit_backbone.finetune import finetune
from fastervit_backbone.inference.predictor import Predictor
from fastervit_backbone.publish import publish
from fastervit_backbone.utils.errors import UserError
from fastervit_backbone.utils.places import shipped_configs
from fastervit_backbone.utils.trust import trusting_pickles
from tests.helpers import CASCADE, QUICK, assert_one_line_error
from tests.mm_helpers import save_untrained
from tests.processes import verb

CLASSES = ('circle', 'square', 'triangle')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A published detector, untrained."""
    run = tmp_path_factory.mktemp('run') / 'run'
    run.mkdir()
    (run / 'cascade.py').write_text(f'_base_ = {str(CASCADE)!r}\n')
    meta = dict(classes=CLASSES, category_ids=[7, 0, 90])
    save_untrained(CASCADE, run / 'epoch_1.pth', dataset_meta=meta)
    return publish(run, run.parent / 'model')


@pytest.fixture
def copy(folder, tmp_path, monkeypatch):
    """A copy of it to change; the test works in another empty folder."""
    (tmp_path / 'cwd').mkdir()
    monkeypatch.chdir(tmp_path / 'cwd')
    return Path(shutil.copytree(folder, tmp_path / 'copy'))


def replace(folder, old, new):
    text = (folder / 'config.py').read_text()
    assert old in text, old
    (folder / 'config.py').write_text(text.replace(old, new, 1))


def append(folder, text):
    with (folder / 'config.py').open('a') as file:
        file.write(f'\n{text}\n')


CODE = "__import__('os').system('touch CANARY')"
#: Name -> (change of the folder, what the error names).
ATTACKS = {
    'a dotted type is called': (
        lambda f: append(f, "model['x'] = 1\n"),
        'is no assignment',
    ),
    'subprocess as a type': (
        lambda f: replace(f, "type='FPN'", "type='subprocess.check_output', args=['touch', 'CANARY']"),
        r"model\.neck\.type: 'subprocess.check_output'",
    ),
    'a type in a pipeline': (
        lambda f: replace(f, "type='PackDetInputs'", "type='os.system', command='touch CANARY'"),
        r"pipeline\.\d\.type: 'os.system'",
    ),
    'a type in a list of types': (
        lambda f: replace(f, "type='CocoMetric'", "type='shutil.rmtree', path='CANARY'"),
        r'test_evaluator\.type',
    ),
    'a module that is imported': (
        lambda f: replace(f, "type='FPN'", "type='evil.Neck'"),
        r"model\.neck\.type: 'evil.Neck'",
    ),
    'substitution of variables': (
        lambda f: replace(f, "'circle'", repr('{{$X:",(' + CODE.replace(' ', '') + '),"}}')),
        None,  # it is the name of a class, and stays one
    ),
    'substitution outside of strings': (
        lambda f: append(f, 'x = {{$X:' + CODE.replace(' ', '') + '}}'),
        'which is code or broken',
    ),
    'plain Python': (lambda f: append(f, CODE), 'is no assignment'),
    'an import': (lambda f: append(f, 'import os'), 'is no assignment'),
    'an expression as a value': (lambda f: append(f, f'model = {CODE}'), 'has an expression'),
    'a comprehension': (lambda f: append(f, 'model = [x for x in ()]'), 'has an expression'),
    'an f-string': (
        lambda f: append(f, "test_cfg = f'{" + CODE.replace("'", '"') + "}'"),
        'has an expression',
    ),
    'dict with positional arguments': (lambda f: append(f, f'test_cfg = dict({CODE})'), 'has an expression'),
    'stars': (lambda f: append(f, 'test_cfg = dict(**{})'), 'has an expression'),
    'a base': (lambda f: append(f, "_base_ = 'evil.py'"), '_base_: no key of a published config'),
    'custom imports': (
        lambda f: replace(f, "'fastervit_backbone'", "'fastervit_backbone', 'evil'"),
        "custom_imports: 'evil'",
    ),
    'a hook': (
        lambda f: append(f, "custom_hooks = [dict(type='CheckpointHook')]"),
        'custom_hooks: no key of a published config',
    ),
    'a backend that writes': (
        lambda f: append(f, "visualizer = dict(type='Visualizer')"),
        'visualizer: no key of a published config',
    ),
    'a metric that writes': (
        lambda f: replace(f, "type='CocoMetric'", "type='CocoMetric', outfile_prefix='CANARY'"),
        r'test_evaluator\.outfile_prefix',
    ),
    'a metric that pickles': (
        lambda f: replace(f, "type='CocoMetric'", "type='DumpResults', out_file_path='CANARY'"),
        r'test_evaluator\.type: DumpResults is not one of',
    ),
    'annotations that are a pickle': (
        lambda f: replace(f, "ann_file='annotations.json'", "ann_file='evil.pkl'"),
        r"ann_file: 'evil.pkl' is no plain word",
    ),
    'annotations elsewhere': (
        lambda f: replace(f, "data_root=''", "data_root='/etc'"),
        r"data_root: '/etc' is no plain word",
    ),
    'a function that mmcv evaluates': (
        lambda f: replace(f, "type='nms'", f'type="{CODE}"'),
        r'nms\.type',
    ),
    'a teacher whose config is run': (
        lambda f: replace(
            f,
            "type='CascadeRCNN'",
            "type='KnowledgeDistillationSingleStageDetector', teacher_config='evil.py'",
        ),
        r'teacher_config|KnowledgeDistillation',
    ),
    'a backbone that reads a pickle': (
        lambda f: replace(f, "type='FasterViT'", "type='mmseg.TIMMBackbone', checkpoint_path='evil'"),
        r'mmseg\.TIMMBackbone is not one of',
    ),
    'a model of another registry': (
        lambda f: replace(f, "type='FPN'", "type='CheckpointHook'"),
        r"model\.neck\.type: 'CheckpointHook' is no registered class",
    ),
    'a scope that is imported': (
        lambda f: replace(f, "type='FPN'", "type='FPN', _scope_='evil'"),
        r'model\.neck\._scope_',
    ),
    'a default scope that is imported': (
        lambda f: replace(f, "default_scope = 'mmdet'", "default_scope = 'evil'"),
        'default_scope',
    ),
    'a type that is no text': (
        lambda f: replace(f, "type='FPN'", 'type=dict(type=print)'),
        'has an expression',
    ),
    'files of a server': (
        lambda f: replace(
            f, "type='LoadImageFromFile'", "type='LoadImageFromFile', backend_args=dict(backend='http')"
        ),
        r'backend_args',
    ),
    'a pickle as class weights': (
        lambda f: replace(f, "type='SmoothL1Loss'", "type='SmoothL1Loss', class_weight='pkl'"),
        r"class_weight: 'pkl': no text is expected here",
    ),
    'a pickle as proposals': (
        lambda f: replace(f, "data_root=''", "data_root='', proposal_file='pkl'"),
        r"proposal_file: 'pkl': no text is expected here",
    ),
    'a hidden pickle': (
        lambda f: replace(f, "ann_file='annotations.json'", "ann_file='.pkl'"),
        r"ann_file: '.pkl' is no plain word",
    ),
    'a file as names': (
        lambda f: replace(f, 'metainfo=dict(', "metainfo=dict(x='evil', "),
        r'metainfo: expected lists',
    ),
    'names in the model': (
        lambda f: replace(f, "type='FPN'", "type='FPN', metainfo=dict(x='evil')"),
        r"model\.neck\.metainfo\.x: 'evil'",
    ),
    'a download': (
        lambda f: replace(f, "data_root=''", "data_root='', download=True"),
        r'dataset\.download',
    ),
    'a function of another place': (
        lambda f: replace(f, "type='nms'", "type='FPN'"),
        r"nms\.type: 'FPN': expected one of nms",
    ),
    'many layers': (
        lambda f: replace(f, 'num_outs=5', 'num_outs=100000'),
        r'num_outs: 100000 is more than 16',
    ),
    'no backbone': (
        lambda f: replace(f, 'backbone=dict(', 'backbones=dict('),
        r'model\.backbone: expected a dict',
    ),
    'a pipeline of words': (
        lambda f: replace(f, "dict(type='LoadImageFromFile')", "'LoadImageFromFile'"),
        r'pipeline: expected a list of dicts',
    ),
    'options that a step does not have': (
        lambda f: replace(f, "type='PackDetInputs'", "type='PackDetInputs', x=1"),
        r'does not work \(TypeError',
    ),
    'a test_cfg of another form': (
        lambda f: replace(f, 'max_per_img=100', 'max_per_img=dict(a=1)'),
        None,  # found at the first image, see below
    ),
    'a path in the model': (
        lambda f: replace(f, "type='FPN'", "type='FPN', start_level='/etc/passwd'"),
        r'model\.neck\.start_level',
    ),
    'a number without end': (
        lambda f: replace(f, 'num_outs=5', 'num_outs=1' + '0' * 30),
        r'model\.neck\.num_outs',
    ),
    'nesting without end': (
        lambda f: append(f, 'test_cfg = ' + '[' * 3000 + ']' * 3000),
        'which is code or broken',
    ),
    'deep nesting': (lambda f: append(f, 'test_cfg = ' + '[' * 60 + ']' * 60), 'nested more than'),
    'no text at all': (lambda f: (f / 'config.py').write_bytes(b'\xff\xfe\x00'), 'cannot read'),
    'a null byte': (lambda f: append(f, 'test_cfg = "\0"'), 'which is code or broken'),
}


def roads(folder, tmp_path):
    """Every way to load the folder, by name."""
    config, weights = folder / 'config.py', folder / 'model.safetensors'
    return {
        'predict': lambda: Predictor(folder),
        'predict, two names': lambda: Predictor(config, weights),
        'test': lambda: evaluate(folder),
        'test, two names': lambda: evaluate(config, weights),
        'export': lambda: export(config, weights, tmp_path / 'out', size=(64, 96)),
        'config': lambda: load_config(config),
    }


@pytest.mark.parametrize('name', ATTACKS)
def test_a_published_folder_runs_no_code(name, copy, tmp_path, monkeypatch):
    change, message = ATTACKS[name]
    canary = tmp_path / 'canary'
    change(copy)
    text = (copy / 'config.py').read_bytes()
    (copy / 'config.py').write_bytes(text.replace(b'CANARY', os.fsencode(canary)))
    for place in (copy, Path.cwd()):
        for file in ('evil.py', 'evil.pkl', 'evil'):
            (place / file).write_text(f'open({str(canary)!r}, "w")')
    monkeypatch.syspath_prepend(str(Path.cwd()))
    for road, load in roads(copy, tmp_path).items():
        if message is not None and 'does not work' in message and not road.startswith('predict'):
            continue  # it is data; building it fails
        if message is None:
            if road.startswith(('predict', 'config')):
                load()
        else:
            with pytest.raises(UserError, match=message) as caught:
                load()
            assert '\n' not in str(caught.value) and len(str(caught.value)) < 600, road
        assert not canary.exists() and not Path('CANARY').exists(), road


def test_the_hub_is_no_other_road(copy, tmp_path, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, 'snapshot_download', lambda repo_id, **_: str(tmp_path / repo_id))
    assert Predictor('hf://copy').categories.names == CLASSES
    append(copy, 'import os')
    for load in (lambda: Predictor('hf://copy'), lambda: evaluate('hf://copy')):
        with pytest.raises(UserError, match=r'is no assignment.*--trust-pickle'):
            load()
    (copy / 'model.safetensors').unlink()
    with pytest.raises(UserError, match=r'hf://copy has no config\.py and model\.safetensors'):
        Predictor('hf://copy')


def test_the_tools_say_it_in_one_line(copy, tmp_path):
    replace(
        copy, "type='FPN'", f"type='subprocess.check_output', args=['touch', {str(tmp_path / 'canary')!r}]"
    )
    Image.new('RGB', (96, 64)).save('image.png')
    for name, arguments in (
        ('predict', [copy, 'image.png', '--out', 'p']),
        ('test', [copy]),
        ('export', [copy, '--size', '64x96', '--out', 'e']),
        ('visualize-attention', [copy, 'image.png', '--out', 'a']),
        ('app', [copy]),
    ):
        assert_one_line_error(
            verb(name, *arguments, cwd=Path.cwd()), r"config\.py: model\.neck\.type: 'subprocess"
        )
    assert not (tmp_path / 'canary').exists()


def test_a_config_that_fails_at_the_first_image_is_one_line(copy):
    replace(copy, 'max_per_img=100', 'max_per_img=dict(a=1)')
    predictor = Predictor(copy, threshold=0)
    with pytest.raises(UserError, match=r'config\.py does not work \(') as caught:
        predictor([np.zeros((64, 96, 3), np.uint8)])
    assert '\n' not in str(caught.value)


def test_trusted_folders_run(copy, tmp_path):
    append(copy, f'open({str(tmp_path / "canary")!r}, "w")')
    with trusting_pickles():
        Predictor(copy)
    assert (tmp_path / 'canary').exists()


def test_weights_of_a_folder_start_a_finetuning(copy):
    append(copy, 'import os')  # nobody reads the config
    assert find_checkpoint(copy) == copy / 'model.safetensors'


def test_a_model_that_asks_for_more_than_its_file_is_not_built(copy):
    replace(copy, 'fc_out_channels=', 'fc_out_channels=90')  # with the digits that follow
    with pytest.raises(UserError, match='the model has far more parameters than the checkpoint'):
        Predictor(copy)


@pytest.mark.parametrize('name', sorted(shipped_configs()))
def test_every_config_of_ours_can_be_published(name):
    from fastervit_backbone.publish import _flat_config

    flat = _flat_config(load_config(shipped_configs()[name]), dict(classes=['a', '{{ fileBasename }}"\'\\']))
    text = as_python(flat)
    read = parse_data_config(text, name).to_dict()

    flat.test_dataloader.update(num_workers=0, persistent_workers=False)
    dataset = flat.test_dataloader.dataset
    if dataset.type.startswith('CIFAR'):
        dataset.download = False

    def without_starts(value):
        if isinstance(value, dict):
            return {k: without_starts(v) for k, v in value.items() if k not in ('init_cfg', 'pretrained')}
        return type(value)(map(without_starts, value)) if isinstance(value, list | tuple) else value

    assert read == without_starts(flat.to_dict())


def test_what_others_could_not_load_is_not_published(folder, tmp_path):
    run = tmp_path / 'run'
    run.mkdir()
    (run / 'mine.py').write_text(
        f'_base_ = {str(CASCADE)!r}\ncustom_imports = dict(imports=["fastervit_backbone", "json"])\n'
    )
    save_untrained(CASCADE, run / 'epoch_1.pth', dataset_meta=dict(classes=CLASSES))
    with pytest.raises(UserError, match=r"mine\.py: custom_imports: 'json' is not one of"):
        publish(run, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


KEYS = st.sampled_from(
    ['type', '_scope_', 'model', 'neck', 'pipeline', 'metainfo', '__class__', 'é', 'a.b', '']
)
TEXTS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        [
            'FPN',
            'mmdet.FPN',
            'os.system',
            'torch.load',
            '{{$X:1}}',
            '../x',
            'http://x',
            'nms',
            'x.pkl',
            'CocoMetric',
        ]
    ),
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


def nodes(tree):
    """Every container within a tree."""
    if isinstance(tree, dict | list):
        yield tree
        for value in tree.values() if isinstance(tree, dict) else tree:
            yield from nodes(value)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_changed_folders_are_built_of_registered_classes_or_refused_in_one_line(folder, data):
    """Change keys, types and nesting of a published config at random."""

    def as_lists(value):
        if isinstance(value, dict):
            return {k: as_lists(v) for k, v in value.items()}
        return [as_lists(v) for v in value] if isinstance(value, list | tuple) else value

    tree = as_lists(read_data_config(folder / 'config.py').to_dict())
    for _ in range(data.draw(st.integers(1, 3))):
        node = data.draw(st.sampled_from(list(nodes(tree))))
        known = sorted(node) if isinstance(node, dict) else []
        place = (
            data.draw(KEYS | st.sampled_from(known or ['type'])) if isinstance(node, dict) else len(node) - 1
        )
        if isinstance(node, dict) or node:
            node[place] = data.draw(VALUES)
    text = ''.join(f'{key} = {value!r}\n' for key, value in tree.items() if str(key).isidentifier())
    before = {name for name in os.listdir('.')}
    try:
        config = parse_data_config(text, 'x.py')
    except UserError as error:
        assert str(error).startswith('x.py: ') and '\n' not in str(error)
        return
    assert set(os.listdir('.')) == before
    for node in nodes(as_lists(config.to_dict())):
        if isinstance(node, dict) and isinstance(node.get('type'), str):
            prefix, _, name = node['type'].rpartition('.')
            assert prefix in ('', 'mmdet', 'mmseg', 'mmpretrain', 'mmengine', 'mmcv') and name.isidentifier()


META = [
    '[1, 2]',
    '"text"',
    '{"dataset_meta": [1]}',
    '{"dataset_meta": {"classes": "abc"}}',
    '{"dataset_meta": {"classes": [1, 2, 3]}}',
    '{"dataset_meta": {"classes": ["a", "b", "c"], "category_ids": [1, 1, 2]}}',
    '{"dataset_meta": {"classes": ["a", "b", "c"], "category_ids": ["1", "2", "3"]}}',
    '{"dataset_meta": {"classes": ["a", "b", "c"], "category_ids": 5}}',
    '{"dataset_meta": ' * 2000,
    '{',
]


@pytest.mark.parametrize('meta', META)
def test_metadata_of_weights_is_checked(meta, copy):
    path = copy / 'model.safetensors'
    save_file(load_file(path), path, metadata=dict(meta=meta))
    with pytest.raises(UserError, match=r'model\.safetensors.*(metadata|classes|category_ids)') as caught:
        Predictor(copy)
    assert '\n' not in str(caught.value)


def test_names_of_classes_are_no_code_in_the_configs_that_we_write(shapes_with_names, tmp_path, monkeypatch):
    """mmengine replaces {{...}} in the text of a config before it runs it."""
    jsons, images, names = shapes_with_names
    result = finetune(
        train=jsons[0], val=jsons[1], images=images, arch='nano', work_dir=tmp_path / 'run', config_only=True
    )
    read = Config.fromfile(result.config)
    assert list(read.train_dataloader.dataset.metainfo.classes) == names
    assert not (tmp_path / 'canary').exists()


@pytest.fixture
def shapes_with_names(tmp_path):
    from fastervit_backbone.datasets.shapes import make_shapes

    data = make_shapes(tmp_path / '{{ fileBasename }}', train=2, val=2, size=(64, 96))
    names = ['{{ fileBasename }}', '{{$X:a}}', '"\'\\{{$HOME:b}}']
    jsons = [data / 'annotations' / f'instances_{split}.json' for split in ('train', 'val')]
    for path in jsons:
        content = json.loads(path.read_text())
        for category, name in zip(content['categories'], names, strict=True):
            category['name'] = name
        path.write_text(json.dumps(content))
    return jsons, [data / 'images' / split for split in ('train', 'val')], names


# images, archives, names


def test_images_that_would_wait_or_fill_the_memory(tmp_path, copy):
    import zlib

    def chunk(kind, content):
        return (
            len(content).to_bytes(4, 'big') + kind + content + zlib.crc32(kind + content).to_bytes(4, 'big')
        )

    header = (170_000_000).to_bytes(4, 'big') + (1).to_bytes(4, 'big') + bytes([8, 0, 0, 0, 0])
    png = (
        b'\x89PNG\r\n\x1a\n'
        + chunk(b'IHDR', header)
        + chunk(b'IDAT', zlib.compress(b'\0'))
        + chunk(b'IEND', b'')
    )
    images = tmp_path / 'images'
    images.mkdir()
    (images / 'long.png').write_bytes(png)
    os.mkfifo(images / 'pipe.png')
    os.mkfifo(images / 'pipe.mp4')
    Image.fromarray(np.zeros((64, 96, 3), np.uint8)).save(images / 'good.png')
    Image.fromarray(np.zeros((64, 96, 3), np.uint8)).save(os.fsencode(images) + b'/\xff\xfe.png')
    done = verb('predict', copy, images, '--out', 'p', '--save', 'csv', '--threshold', '0', cwd=Path.cwd())
    assert done.returncode == 1 and 'Traceback' not in done.stderr, done.stderr
    for name, reason in (
        ('long.png', '170000000x1 pixels, more than OpenCV reads'),
        ('pipe.png', 'is a pipe'),
        ('pipe.mp4', 'is a pipe'),
    ):
        assert any(name in line and reason in line for line in done.stdout.splitlines()), done.stdout
    names = {image['file_name'] for image in json.loads(Path('p/predictions.json').read_text())['images']}
    assert names == {'good.png', os.fsdecode(b'\xff\xfe.png')}
    assert_one_line_error(
        verb('predict', copy, images / 'pipe.png', '--out', 'q', cwd=Path.cwd()), r'pipe\.png is a pipe'
    )


def test_file_names_that_leave_the_folder(tmp_path, copy):
    images = tmp_path / 'images'
    images.mkdir()
    Image.new('RGB', (96, 64)).save(images / 'a.png')
    Image.new('RGB', (96, 64)).save(tmp_path / 'outside.png')
    content = dict(
        images=[
            dict(id=i, file_name=name, width=96, height=64)
            for i, name in enumerate(['a.png', '../outside.png'])
        ],
        annotations=[],
        categories=[dict(id=7, name='circle')],
    )
    (tmp_path / 'a.json').write_text(json.dumps(content))
    before = {p for p in tmp_path.rglob('*') if 'cwd' not in p.parts}
    done = verb(
        'predict',
        copy,
        images,
        '--annotations',
        tmp_path / 'a.json',
        '--save',
        'yolo',
        'csv',
        '--out',
        'p',
        cwd=Path.cwd(),
    )
    assert done.returncode == 0, done.stderr
    assert_one_line_error(
        verb('convert-data', 'coco', tmp_path / 'a.json', '--out', 'labels', cwd=Path.cwd()),
        'leaves the folder',
    )
    assert {p for p in tmp_path.rglob('*') if 'cwd' not in p.parts} == before
    assert sorted(p.name for p in Path.cwd().iterdir()) == ['p']


@pytest.mark.parametrize('kind', ['bomb', 'outside', 'absolute', 'link', 'password'])
def test_archives_write_only_what_they_should(kind, tmp_path):
    import tarfile
    import zipfile

    from fastervit_backbone.datasets.archives import unpack

    root, path = tmp_path / 'root', tmp_path / 'archive'
    root.mkdir()
    if kind == 'link':
        with tarfile.open(path, 'w') as archive:
            member = tarfile.TarInfo('images')
            member.type, member.linkname = tarfile.SYMTYPE, str(tmp_path)
            archive.addfile(member)
            source = tmp_path / 'a.txt'
            source.write_text('a')
            archive.add(source, 'images/canary')
        unpack(path, root)  # links are left out
        assert (root / 'images' / 'canary').is_file() and not (root / 'images').is_symlink()
        assert not (tmp_path / 'canary').exists()
        return
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        name = dict(outside='../canary', absolute='/canary').get(kind, 'a.txt')
        archive.writestr(name, b'\0' * (300_000_000 if kind == 'bomb' else 10))
    if kind == 'password':
        content = bytearray(path.read_bytes())
        for mark, offset in ((b'PK\x03\x04', 6), (b'PK\x01\x02', 8)):
            content[content.index(mark) + offset] |= 1
        path.write_bytes(content)
    with pytest.raises(UserError, match='archive') as caught:
        unpack(path, root)
    assert '\n' not in str(caught.value) and not list(root.rglob('*')) and not (tmp_path / 'canary').exists()


# whose checkpoint


def test_a_copied_work_dir_uses_its_own_files(tmp_path):
    for name in ('original', 'copy'):
        (tmp_path / name).mkdir()
        for step in (1, 2):
            (tmp_path / name / f'epoch_{step}.pth').write_bytes(b'x')
        (tmp_path / name / 'last_checkpoint').write_text(str(tmp_path / 'original' / 'epoch_1.pth'))
    assert find_checkpoint(tmp_path / 'copy') == tmp_path / 'copy' / 'epoch_1.pth'
    (tmp_path / 'copy' / 'last_checkpoint').write_text(r'C:\runs\mine\epoch_1.pth')
    assert find_checkpoint(tmp_path / 'copy') == tmp_path / 'copy' / 'epoch_1.pth'
    (tmp_path / 'copy' / 'last_checkpoint').write_bytes(b'\xff\0' * 5000)
    assert find_checkpoint(tmp_path / 'copy').parent == tmp_path / 'copy'


@pytest.fixture
def shapes_root(tmp_path, monkeypatch):
    from fastervit_backbone.datasets.shapes import make_shapes

    root = make_shapes(tmp_path / 'shapes', train=4, val=2, size=(64, 96))
    monkeypatch.setenv('SHAPES_ROOT', str(root))
    return root


def test_a_work_dir_in_use_is_refused_and_a_copy_spares_the_original(shapes_root, tmp_path):
    from filelock import FileLock

    from fastervit_backbone.engine.runner.work_dir import LOCK_NAME

    run, options = tmp_path / 'run', ['--cfg-options', 'train_cfg.max_epochs=1', *QUICK]
    (run).mkdir()
    with FileLock(run / LOCK_NAME):
        done = verb('train', CASCADE, '--work-dir', run, *options, cwd=tmp_path, SHAPES_ROOT=str(shapes_root))
    assert_one_line_error(done, 'another run is writing into this folder')
    assert not list(run.glob('*.p*'))
    options += ['default_hooks.checkpoint.save_best=coco/bbox_mAP', 'default_hooks.checkpoint.rule=greater']
    done = verb('train', CASCADE, '--work-dir', run, *options, cwd=tmp_path, SHAPES_ROOT=str(shapes_root))
    assert done.returncode == 0, done.stderr
    (best,) = run.glob('best_*.pth')
    shutil.copytree(run, tmp_path / 'copy')
    content = torch.load(tmp_path / 'copy' / 'epoch_1.pth', weights_only=False)
    content['message_hub']['runtime_info']['best_score'] = -1.0  # the next evaluation is better
    torch.save(content, tmp_path / 'copy' / 'epoch_1.pth')
    options[1] = 'train_cfg.max_epochs=2'
    done = verb(
        'train',
        CASCADE,
        '--work-dir',
        'copy',
        '--resume',
        *options,
        cwd=tmp_path,
        SHAPES_ROOT=str(shapes_root),
    )
    assert done.returncode == 0, done.stderr
    assert 'resuming from copy/epoch_1.pth' in done.stdout
    assert best.is_file() and [p.name for p in (tmp_path / 'copy').glob('best_*')] == [
        best.name.replace('epoch_1', 'epoch_2')
    ]


# tensors and texts of odd kinds


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (lambda w: {'state_dict': {1: torch.zeros(3), **w}}, 'no home|unexpected|does not fit|1'),
        (lambda w: {'state_dict': {k: v.to_sparse() for k, v in w.items()}}, 'is no plain tensor'),
        (lambda w: {'state_dict': {k: v.to('meta') for k, v in w.items()}}, 'is no plain tensor'),
        (lambda w: {'state_dict': w, 'meta': {'dataset_meta': torch.zeros(2)}}, 'instead of a dict'),
        (lambda w: {'state_dict': w, 'meta': {'dataset_meta': {'classes': 'abc'}}}, "classes are 'abc'"),
        (lambda w: {'state_dict': w, 'meta': [1]}, 'instead of a dict'),
    ],
)
def test_checkpoints_of_odd_content(content, message, copy, tmp_path):
    path = tmp_path / 'odd.pth'
    torch.save(content(load_file(copy / 'model.safetensors')), path)
    with pytest.raises(UserError, match=message) as caught:
        Predictor(CASCADE, path)
    assert '\n' not in str(caught.value)


def test_names_do_not_control_the_terminal(copy, tmp_path):
    path, names = copy / 'model.safetensors', ['\x1b]0;x\x07', 'b', 'c']
    save_file(load_file(path), path, metadata=dict(meta=json.dumps(dict(dataset_meta=dict(classes=names)))))
    Image.new('RGB', (96, 64)).save('image.png')
    done = verb('predict', copy, 'image.png', '--classes', 'nothing', '--out', 'p', cwd=Path.cwd())
    assert_one_line_error(done, r'its classes: \\x1b\]0;x\\x07, b, c')
    assert '\x1b' not in done.stderr


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('names: &a [x]\ntrain: a', None),
        ('a: &a [x, x]\nb: &b [*a, *a]\nnames: [*b, *b]\ntrain: x', 'names must be texts'),
        ('names: [a]\ntrain: pipe', 'is a pipe'),
        ('names: [a]\ntrain: 2026-99-99', 'no folder or list|broken YAML'),
        ('names: [a]\ntrain: ' + 'x' * 6000, 'in place of a folder'),
        ('names: [a]\ntrain: {a: b}', 'in place of a folder'),
        ('names: ' + '[' * 3000, 'broken YAML'),
        ('names: [a]\ntrain: list.txt', 'is not a text file'),
    ],
)
def test_hostile_yaml(text, message, tmp_path):
    from fastervit_backbone.datasets.yolo import read_yolo

    (tmp_path / 'a').mkdir()
    Image.new('RGB', (8, 8)).save(tmp_path / 'a' / 'a.png')
    (tmp_path / 'a' / 'a.txt').write_text('0 0.5 0.5 0.5 0.5')
    os.mkfifo(tmp_path / 'pipe')
    (tmp_path / 'list.txt').write_bytes(b'\xff\xfe\x00')
    (tmp_path / 'data.yaml').write_text(text)
    if message is None:
        assert len(read_yolo(tmp_path / 'data.yaml')['train'].content['annotations']) == 1
        return
    with pytest.raises(UserError, match=message) as caught:
        read_yolo(tmp_path / 'data.yaml')
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('segmentation', dict(size=[8, 8], counts='!!')),
        ('segmentation', 'text'),
        ('segmentation', [[['a']]]),
        ('segmentation', dict(size=[-1, 8], counts=[64])),
        ('category_id', [1]),
        ('image_id', {}),
    ],
)
def test_hostile_coco_to_label_maps(key, value, tmp_path):
    from fastervit_backbone.datasets.masks import coco_to_label_maps

    annotation = dict(id=1, image_id=1, category_id=1, bbox=[0, 0, 4, 4], segmentation=[[0, 0, 4, 0, 4, 4]])
    content = dict(
        images=[dict(id=1, file_name='a.png', width=8, height=8)],
        annotations=[annotation | {key: value}],
        categories=[dict(id=1, name='a')],
    )
    (tmp_path / 'a.json').write_text(json.dumps(content))
    with pytest.raises(UserError, match=r'a\.json') as caught:
        coco_to_label_maps(tmp_path / 'a.json', tmp_path / 'out')
    assert '\n' not in str(caught.value)
