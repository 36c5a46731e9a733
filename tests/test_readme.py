"""README tells the truth of this commit."""

import re

import pytest

from fastervit_backbone.__main__ import variant_table

from .conftest import ROOT

README = (ROOT / 'README.md').read_text()


def test_the_table_of_variants_is_the_commands():
    assert variant_table() in README


def test_files_that_it_names_exist():
    named = re.findall(r'\]\((?!http)([^)#]+)\)', README) + re.findall(r'(?:tools|configs|tests|demo)/[\w/]+\.py', README)
    assert len(named) > 8
    for name in named:
        assert (ROOT / name).exists() or (ROOT / 'configs' / name).exists(), name


def test_backbone_snippets_run():
    blocks = re.findall(r'```python\n(.*?)```', README, re.DOTALL)
    block = next(b for b in blocks if 'FasterViT(' in b)
    scope = {}
    exec(block.replace('800, 1333', '64, 97').replace("'2'", "'nano'"), scope)
    assert [tuple(scope[n].shape[2:]) for n in ('c2', 'c3', 'c4', 'c5')] == [(16, 25), (8, 13), (4, 7), (2, 4)]


def test_own_data_config_reads(tmp_path):
    config_module = pytest.importorskip('mmengine.config')
    pytest.importorskip('mmdet')
    blocks = re.findall(r'```python\n(.*?)```', README, re.DOTALL)
    block = next(b for b in blocks if '_base_' in b).replace('/path/to/fastervit_backbone', str(ROOT))
    (tmp_path / 'mine.py').write_text(block)
    config = config_module.Config.fromfile(tmp_path / 'mine.py')
    from fastervit_backbone.engine.checks import fit_classes

    assert fit_classes(config, 'train') == ['num_classes 80 -> 2 in 4 heads, as the data set has']
    assert fit_classes(config, 'train') == []
    assert [h.num_classes for h in config.model.roi_head.bbox_head] == [2, 2, 2] and config.model.roi_head.mask_head.num_classes == 2
    assert config.model.roi_head.bbox_head[1].loss_bbox.type == 'GIoULoss'
    assert config.test_dataloader.dataset.ann_file == 'val.json' and config.val_evaluator.metric == ['bbox', 'segm']
