"""Hooks of the toolkits that change the training data do change the images that the model sees."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip('mmdet')
pytest.importorskip('mmpretrain')

import mmpretrain.engine  # noqa: F401 (registers SwitchRecipeHook)
from mmcv.transforms import BaseTransform
from mmdet.registry import MODELS, TRANSFORMS
from mmengine.dataset import BaseDataset
from mmengine.model import BaseModel

from fastervit_backbone.datasets.shapes import make_shapes
from fastervit_backbone.engine.runner.sampling import FaultTolerantDataset
from fastervit_backbone.train import train
from tests.helpers import CASCADE

SEEN: list[set[int]] = []  # values of the pixels, a set a step


@TRANSFORMS.register_module()
class Paint(BaseTransform):
    """Replaces the image by one of a single value, but for a corner."""

    def __init__(self, value):
        self.value = value

    def transform(self, results):
        results['img'] = np.full_like(results['img'], self.value)
        results['img'][0, 0] = 0  # a constant image would stop the run
        return results


@MODELS.register_module()
class PixelRecorder(BaseModel):
    """Keeps the values of the images of each step."""

    def __init__(self, data_preprocessor=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.bbox_head = SimpleNamespace(use_l1=False)

    def forward(self, inputs, data_samples=None, mode='loss'):
        SEEN.append({int(value) for image in inputs for value in image.unique() if value})
        return dict(loss=self.weight.square().sum())


def pipeline(*values):
    paint = ''.join(f"dict(type='Paint', value={value}), " for value in values)
    return (
        "[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True), "
        f"{paint}dict(type='PackDetInputs')]"
    )


MIXED = """
mixed = dict(type='mmdet.MultiImageMixDataset', dataset=dict(type='CocoDataset', data_root=data_root,
    ann_file='annotations/instances_train.json', data_prefix=dict(img='images/train/'), metainfo=metainfo,
    pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True)]),
    pipeline=[dict(type='Paint', value=10), dict(type='RandomFlip', prob=0.0), dict(type='Brighter'),
              dict(type='PackDetInputs')])
train_dataloader = dict(dataset=dict(_delete_=True, **mixed))
"""


@TRANSFORMS.register_module()
class Brighter(Paint):
    """What YOLOXModeSwitchHook leaves out at the end."""

    def __init__(self):
        super().__init__(200)


TRAIN = f'train_pipeline={pipeline(200)}'
SWITCH = f"dict(type='mmdet.PipelineSwitchHook', switch_epoch=1, switch_pipeline={pipeline(200)})"
RECIPE = f"dict(type='mmpretrain.SwitchRecipeHook', schedule=[dict(action_epoch=2, {TRAIN})])"
YOLOX = "dict(type='mmdet.YOLOXModeSwitchHook', num_last_epochs=1, skip_type_keys=('Brighter',))"


@pytest.mark.parametrize(
    ('hook', 'values', 'workers'),
    [(SWITCH, (10, 200), 2), (RECIPE, (10, 200), 2), (YOLOX, (200, 10), 2), (YOLOX, (200, 10), 0)],
    ids=['PipelineSwitchHook', 'SwitchRecipeHook', 'YOLOXModeSwitchHook', 'without workers'],
)
def test_images_after_a_switch(hook, values, workers, tmp_path, monkeypatch):
    monkeypatch.setenv('SHAPES_ROOT', str(make_shapes(tmp_path / 'shapes', train=4, val=1, size=(64, 96))))
    data = f'train_dataloader = dict(dataset=dict(pipeline={pipeline(10)}))'
    if 'YOLOX' in hook:
        data = "metainfo = dict(classes=('circle', 'square', 'triangle'))\n"
        data += "data_root = '{{$SHAPES_ROOT:x}}'\n" + MIXED
    (tmp_path / 'config.py').write_text(
        f'_base_ = {str(CASCADE)!r}\n'
        "model = dict(_delete_=True, type='mmdet.PixelRecorder')\n"
        f'custom_hooks = [{hook}]\nval_dataloader = val_cfg = val_evaluator = None\n{data}\n'
    )
    options = {
        'train_cfg.max_epochs': 3,
        'train_cfg.val_interval': 9,
        'train_dataloader.batch_size': 2,
        'train_dataloader.num_workers': workers,
        'train_dataloader.persistent_workers': workers > 0,
    }
    SEEN.clear()
    train(tmp_path / 'config.py', work_dir=tmp_path / 'work', options=options)
    epochs = [SEEN[i : i + 2] for i in range(0, 6, 2)]
    assert epochs == [[{values[0]}] * 2] + [[{values[1]}] * 2] * 2


def test_what_is_set_is_the_data_sets():
    wrapped = BaseDataset(lazy_init=True, serialize_data=False)
    proxy = FaultTolerantDataset(wrapped)
    proxy.pipeline = 'other'
    assert wrapped.pipeline == 'other' and 'pipeline' not in vars(proxy)
