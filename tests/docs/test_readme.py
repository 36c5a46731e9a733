"""README and docs/ tell the truth of this commit."""

import itertools
import re

import pytest

from fastervit_backbone.__main__ import variant_table
from tests.helpers import ROOT

README = (ROOT / 'README.md').read_text()
PAGES = {'README.md': README} | {
    f'docs/{p.name}': p.read_text() for p in sorted((ROOT / 'docs').glob('*.md'))
}
PAGES |= {'docs/benchmarks/README.md': (ROOT / 'docs' / 'benchmarks' / 'README.md').read_text()}


def test_the_table_of_variants_is_the_commands():
    assert variant_table() in README


@pytest.mark.parametrize('page', PAGES)
def test_files_that_it_names_exist(page):
    links = re.findall(r'\]\((?!http)([^)#]+)\)', PAGES[page])
    assert all(((ROOT / page).parent / name).exists() for name in links), links
    named = re.findall(r'(?:tools|configs|tests|demo|baselines)/[\w/.-]+\.(?:py|md)', PAGES[page])
    assert len(links) + len(named) > 3
    for name in named:
        assert (ROOT / name).exists() or (ROOT / 'configs' / name).exists(), name


def test_configs_in_braces_exist():
    """`dino_fastervit{0,1}_12e.py` stands for two files."""
    found = re.findall(r'`((?:demo/)?[\w-]*\{[\w,]+\}[\w{},]*\.py)`', README)
    assert len(found) >= 6
    for pattern in found:
        parts = re.split(r'\{([^}]+)\}', pattern)
        choices = [p.split(',') if i % 2 else [p] for i, p in enumerate(parts)]
        for combination in itertools.product(*choices):
            assert (ROOT / 'configs' / ''.join(combination)).is_file(), ''.join(combination)


def test_backbone_snippets_run():
    blocks = re.findall(r'```python\n(.*?)```', README, re.DOTALL)
    block = next(b for b in blocks if 'FasterViT(' in b)
    scope = {}
    exec(block.replace('800, 1333', '64, 97').replace("'2'", "'nano'"), scope)
    assert [tuple(scope[n].shape[2:]) for n in ('c2', 'c3', 'c4', 'c5')] == [
        (16, 25),
        (8, 13),
        (4, 7),
        (2, 4),
    ]
    exec(next(b for b in blocks if '.deploy(' in b), scope)
    assert [tuple(m.shape[2:]) for m in scope['maps']] == [(16, 24), (8, 12), (4, 6), (2, 3)]


def test_own_data_config_reads(tmp_path):
    config_module = pytest.importorskip('mmengine.config')
    pytest.importorskip('mmdet')
    blocks = re.findall(r'```python\n(.*?)```', README, re.DOTALL)
    block = next(b for b in blocks if '_base_' in b).replace('/path/to/fastervit_backbone', str(ROOT))
    (tmp_path / 'mine.py').write_text(block)
    config = config_module.Config.fromfile(tmp_path / 'mine.py')
    from fastervit_backbone.engine.config.adapt import fit_classes

    assert fit_classes(config, 'train') == ['num_classes 80 -> 2 in 4 heads, as the data set has']
    assert fit_classes(config, 'train') == []
    assert [h.num_classes for h in config.model.roi_head.bbox_head] == [
        2,
        2,
        2,
    ] and config.model.roi_head.mask_head.num_classes == 2
    assert config.model.roi_head.bbox_head[1].loss_bbox.type == 'GIoULoss'
    assert config.test_dataloader.dataset.ann_file == 'val.json' and config.val_evaluator.metric == [
        'bbox',
        'segm',
    ]


def test_own_label_maps_config_reads(tmp_path):
    config_module = pytest.importorskip('mmengine.config')
    pytest.importorskip('mmseg')
    blocks = re.findall(r'```python\n(.*?)```', PAGES['docs/data.md'], re.DOTALL)
    (tmp_path / 'mine.py').write_text(blocks[0].replace('/path/to/fastervit_backbone', str(ROOT)))
    from mmengine.registry import init_default_scope

    import fastervit_backbone  # noqa: F401 (lets mmengine find mmseg's bases)
    from fastervit_backbone.engine.config.adapt import fit_classes, fit_label_loading

    init_default_scope('mmseg')
    config = config_module.Config.fromfile(tmp_path / 'mine.py')
    assert fit_classes(config, 'train') == ['num_classes 150 -> 3 in 1 heads, as the data set has']
    assert fit_label_loading(config)
    for split in ('train', 'val', 'test'):
        load = [t for t in config[f'{split}_dataloader'].dataset.pipeline if t.type == 'LoadAnnotations']
        assert [t.reduce_zero_label for t in load] == [False]
    assert (
        config.test_dataloader.dataset.ignore_index == 11
        and config.train_dataloader.dataset.pipeline[2].type == 'RandomResize'
    )
