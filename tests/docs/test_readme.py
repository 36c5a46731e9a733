"""README and docs match the code of this commit."""

import itertools
import re

import pytest
from variants import variant_table

from tests.helpers import ROOT

PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in (
        ROOT / 'README.md',
        *sorted((ROOT / 'docs').glob('*.md')),
        *sorted((ROOT / 'docs/examples').glob('*.md')),
        ROOT / 'docs/benchmarks/README.md',
    )
}
README = PAGES['README.md']


def python_blocks(page):
    return re.findall(r'```python\n(.*?)```', PAGES[page], re.DOTALL)


def write_config(page, base, path):
    """Write the page's config that is based on ``base`` to ``path``, based on this repository's own."""
    block = next(b for b in python_blocks(page) if '_base_' in b and base in b)
    path.write_text(block.replace('/path/to/fastervit_backbone', str(ROOT)))
    return path


def test_the_table_of_variants_is_the_commands():
    assert variant_table() in PAGES['docs/backbone.md']


def test_the_contents_link_every_page():
    linked = set(re.findall(r'\]\(([^).#][^)#]*\.md)', PAGES['docs/contents.md']))
    assert {f'docs/{name}' for name in linked} | {'docs/contents.md'} == {
        n for n in PAGES if n.startswith('docs/')
    }


def test_readme_is_short():
    assert len(README.splitlines()) <= 120 and '](docs/contents.md)' in README
    assert len({link for link in re.findall(r'\]\(([^)]+)\)', README) if not link.endswith('.jpg')}) <= 8 + 1


@pytest.mark.parametrize('page', PAGES)
def test_files_that_it_names_exist(page):
    links = re.findall(r'\]\((?!http)([^)#]+)\)', PAGES[page])
    assert all(((ROOT / page).parent / name).exists() for name in links), links
    named = re.findall(
        r'(?:tools|configs|tests|demo|baselines|fastervit_paper)/[\w/.-]+\.(?:py|md)', PAGES[page]
    )
    verbs = re.findall(r'fastervit ([a-z-]+)', PAGES[page])
    assert len(links) + len(named) + len(verbs) > 3
    for name in named:
        assert (ROOT / name).exists() or (ROOT / 'configs' / name).exists(), name


@pytest.mark.parametrize('page', PAGES)
def test_links_to_sections_exist(page):
    """The part of a link after # is a heading of its page, as GitHub derives it."""
    for name, anchor in re.findall(r'\]\((?!http)([^)#]*)#([^)]+)\)', PAGES[page]):
        target = ((ROOT / page).parent / name) if name else ROOT / page
        headings = re.findall(r'^#+ (.*)$', target.read_text(), re.MULTILINE)
        assert anchor in {re.sub(r'[^\w\- ]', '', h.lower()).replace(' ', '-') for h in headings}, anchor


def test_configs_in_braces_exist():
    """`dino_fastervit{0,1}_12e.py` stands for two files."""
    patterns = re.findall(r'`((?:demo/)?[\w-]*\{[\w,]+\}[\w{},]*\.py)`', PAGES['docs/models.md'])
    assert len(patterns) >= 6
    for pattern in patterns:
        parts = re.split(r'\{([^}]+)\}', pattern)
        choices = [p.split(',') if i % 2 else [p] for i, p in enumerate(parts)]
        for combination in itertools.product(*choices):
            assert (ROOT / 'configs' / ''.join(combination)).is_file(), ''.join(combination)


@pytest.mark.parametrize('page', ['README.md', 'docs/backbone.md'])
def test_backbone_snippets_run(page):
    block = next(b for b in python_blocks(page) if 'FasterViT(' in b)
    scope = {}
    exec(block.replace('800, 1333', '64, 97').replace("'2'", "'nano'"), scope)
    sizes = [tuple(scope[name].shape[2:]) for name in ('c2', 'c3', 'c4', 'c5')]
    assert sizes == [(16, 25), (8, 13), (4, 7), (2, 4)]
    if page == 'docs/backbone.md':
        exec(next(b for b in python_blocks(page) if '.deploy(' in b), scope)
        assert [tuple(m.shape[2:]) for m in scope['maps']] == [(16, 24), (8, 12), (4, 6), (2, 3)]


def test_own_data_config_reads(tmp_path):
    config_module = pytest.importorskip('mmengine.config')
    pytest.importorskip('mmdet')
    config = config_module.Config.fromfile(write_config('docs/data.md', 'cascade', tmp_path / 'mine.py'))
    from fastervit_backbone.engine.config.classes import fit_classes

    assert fit_classes(config, 'train') == ['num_classes 80 -> 2 in 4 heads, to match the data set']
    assert fit_classes(config, 'train') == []
    heads = config.model.roi_head
    assert [h.num_classes for h in heads.bbox_head] == [2, 2, 2] and heads.mask_head.num_classes == 2
    assert heads.bbox_head[1].loss_bbox.type == 'GIoULoss'
    assert config.test_dataloader.dataset.ann_file == 'val.json'
    assert config.val_evaluator.metric == ['bbox', 'segm']


def test_own_label_maps_config_reads(tmp_path):
    config_module = pytest.importorskip('mmengine.config')
    pytest.importorskip('mmseg')
    from mmengine.registry import init_default_scope

    import fastervit_backbone  # noqa: F401 (lets mmengine find the bases of mmseg)
    from fastervit_backbone.engine.config.classes import fit_classes, fit_label_loading

    init_default_scope('mmseg')
    config = config_module.Config.fromfile(write_config('docs/data.md', 'fpn', tmp_path / 'mine.py'))
    assert fit_classes(config, 'train') == ['num_classes 150 -> 3 in 1 heads, to match the data set']
    assert fit_label_loading(config)
    for split in ('train', 'val', 'test'):
        load = [t for t in config[f'{split}_dataloader'].dataset.pipeline if t.type == 'LoadAnnotations']
        assert [t.reduce_zero_label for t in load] == [False]
    assert config.test_dataloader.dataset.ignore_index == 11
    assert config.train_dataloader.dataset.pipeline[2].type == 'RandomResize'
