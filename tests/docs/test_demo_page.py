"""The page about the demo runs."""

import base64
import json
import re

import pytest
from PIL import Image

pytest.importorskip('matplotlib')
pytest.importorskip('mmengine')

from demo_page import HEADS, read_run, write_page

from fastervit_backbone.utils.errors import UserError


@pytest.fixture
def root(tmp_path):
    """The files that `make demo-all` leaves, with two logged iterations per head."""
    for head in HEADS:
        folder = tmp_path / 'runs' / head
        for part in ('20260102_030405/vis_data', '20260102_040000/vis_data', 'pictures'):
            (folder / part).mkdir(parents=True)
        key = 'mIoU' if head in ('upernet', 'fpn') else 'coco/bbox_mAP'
        value = 90.0 if key == 'mIoU' else 0.75
        lines = [dict(loss=2.0, iter=1), dict(loss=1.0, iter=2), {key: value, 'step': 2}]
        training, testing = (folder / p / 'vis_data' for p in ('20260102_030405', '20260102_040000'))
        (training / 'scalars.json').write_text('\n'.join(map(json.dumps, lines)) + '\n')
        (training / 'config.py').write_text('randomness = dict(seed=7)\n')
        (testing / 'scalars.json').write_text(json.dumps({key: value}) + '\n')
        (folder / 'metrics.json').write_text(json.dumps(dict(metrics={key: value})))
        (folder / 'last_checkpoint').write_text('x.pth')
        Image.new('RGB', (64, 48), 'green').save(folder / 'pictures' / 'overview.png')
    return tmp_path / 'runs'


def test_the_page_is_self_contained(root, tmp_path):
    page = write_page(root, tmp_path / 'docs' / 'trained.json').read_text()
    assert all(name in page for name in HEADS.values())
    assert 'mIoU 0.900' in page and 'box AP 0.750' in page
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(pictures) == 2 * len(HEADS)
    assert all(base64.b64decode(p).startswith(b'\x89PNG') for p in pictures)
    assert 'src="http' not in page and 'href="http' not in page
    records = json.loads((tmp_path / 'docs' / 'trained.json').read_text())
    assert {r['config'] for r in records} == {f'{h}_shapes' for h in HEADS}
    assert all(r['seed'] == 7 and r['commit'] for r in records)
    assert all((tmp_path / 'docs' / r['log']).is_file() for r in records)


def test_the_training_log_is_the_one_with_losses(root):
    run = read_run(root / 'fpn', 'fpn')
    assert run.log.parent.parent.name == '20260102_030405' and run.metrics == {'mIoU': 0.9} and run.seed == 7


@pytest.mark.parametrize(
    'missing', ['metrics.json', 'pictures/overview.png', '20260102_030405/vis_data/scalars.json']
)
def test_an_unfinished_run(root, missing):
    (root / 'dino' / missing).unlink()
    with pytest.raises(UserError, match=r'contains no finished run .* is missing.*make demo-all'):
        write_page(root)
    assert not (root / 'index.html').exists()


def test_broken_metrics_and_a_record_that_cannot_be_written(root, tmp_path):
    with pytest.raises(UserError, match=r'--record .* is a folder: name a file'):
        write_page(root, tmp_path)
    (root / 'fpn' / 'metrics.json').write_text('{"metrics":')
    with pytest.raises(UserError, match=r'metrics\.json is broken .*run fastervit test with --out'):
        write_page(root)


def test_a_later_run_without_a_checkpoint_is_skipped(root):
    later = root / 'fpn' / '20990102_030405' / 'vis_data'
    later.mkdir(parents=True)
    (later / 'scalars.json').write_text(json.dumps(dict(loss=9.0, iter=1)) + '\n')
    (root / 'fpn' / 'backup').mkdir()
    assert read_run(root / 'fpn', 'fpn').log.parent.parent.name == '20260102_030405'


def test_a_truncated_log(root):
    log = root / 'fpn' / '20260102_030405' / 'vis_data' / 'scalars.json'
    log.write_text(log.read_text()[:-5])
    with pytest.raises(UserError, match=r'scalars\.json is truncated or broken'):
        read_run(root / 'fpn', 'fpn')
