"""A head is one row of recipes.py: each row has configs, and its parts and graph are those of its models."""

import pytest

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

from fastervit_backbone.datasets.shapes import make_shapes
from fastervit_backbone.evaluate import evaluate
from fastervit_backbone.export import build
from fastervit_backbone.finetune import finetune
from fastervit_backbone.inference import Predictor
from fastervit_backbone.recipes import RECIPES, learns_masks, part_of
from fastervit_backbone.train import train
from tests.helpers import IN_PROCESS, ROOT
from tests.mm_helpers import load


@pytest.mark.parametrize('name', RECIPES)
def test_a_row_says_what_its_configs_have(name):
    recipe = RECIPES[name]
    path = ROOT / 'configs' / recipe.configs.format('0')
    model = load(path).model
    expected = 'MESAClassifier' if name == 'classifier' else recipe.model
    assert model.type.rpartition('.')[2] == expected
    assert all(part_of(model, part) for part in recipe.parts[:1])
    if recipe.kind == 'coco':
        assert learns_masks(model) == (recipe.masks is not None)
    assert recipe.nano is None or (ROOT / 'configs' / recipe.nano).is_file()
    assert recipe.graph is None or issubclass(getattr(build, recipe.graph), build.DetectorGraph)


@pytest.mark.long
def test_a_head_of_one_row_is_trained_and_predicts(tmp_path):
    """ATSS, whose only other trace in the package is its config; tests/export compares its graph."""
    shapes = make_shapes(tmp_path / 'shapes', train=8, val=2, size=(64, 96))
    options = dict(model='atss', arch='0', start='nothing', epochs=1, batch=4, size=(64, 96))
    config = finetune(shapes, **options, work_dir=tmp_path, config_only=True).config
    train(config, work_dir=tmp_path, options=IN_PROCESS)
    every_score = {'model.test_cfg.score_thr': 0.0}  # it has hardly learned anything
    evaluate(config, tmp_path, work_dir=tmp_path / 'test', options=IN_PROCESS | every_score)
    images = sorted((shapes / 'images' / 'val').glob('*.png'))
    (found, _) = Predictor(config, tmp_path, threshold=0, options=every_score)(images)
    assert len(found) > 10 and found.masks is None
