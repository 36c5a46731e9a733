import os
import subprocess
import sys

import pytest
import torch

pytest.importorskip('mmengine')

from mmengine.config import ConfigDict
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS

from fastervit_backbone import FasterViT
from fastervit_backbone.engine import LayerDecayOptimWrapperConstructor
from fastervit_backbone.utils.errors import CheckpointError, UserError
from tests.helpers import ROOT


@pytest.mark.parametrize('package', ['mmdet', 'mmseg'])
def test_both_toolkits_find_the_backbone(package):
    registry = pytest.importorskip(f'{package}.registry').MODELS
    net = registry.build(dict(type='FasterViT', arch='nano'))
    assert isinstance(net, FasterViT) and MODELS.get('FasterViT') is FasterViT


def test_unknown_argument_raises_through_the_registry():
    with pytest.raises(TypeError, match='use_checkpoint'):
        MODELS.build(ConfigDict(type='FasterViT', arch='nano', use_checkpoint=True))


def test_arch_as_a_config_dict():
    arch = ConfigDict(dim=8, stem_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 4])
    assert MODELS.build(ConfigDict(type='FasterViT', arch=arch, out_indices=[1, 2])).out_channels == (16, 32)


def test_detector_init_weights_reads_init_cfg(tmp_path):
    models = pytest.importorskip('mmdet.registry').MODELS
    from mmengine.config import Config

    config = Config.fromfile(ROOT / 'configs' / 'demo' / 'cascade_shapes.py')
    config.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'absent.pth'))
    model = models.build(config.model)  # reads nothing yet
    with pytest.raises(CheckpointError, match=r'no checkpoint at .*absent\.pth'):
        model.init_weights()


def test_constructor_makes_groups():
    net = FasterViT('nano')
    config = dict(
        constructor='LayerDecayOptimWrapperConstructor',
        paramwise_cfg=dict(decay_rate=0.5),
        optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
        clip_grad=dict(max_norm=1),
    )
    wrapper = build_optim_wrapper(net, config)
    groups = {g['name']: g for g in wrapper.optimizer.param_groups}
    layers = sum(net.spec.depths) + 1
    assert groups['layer_0']['lr'] == pytest.approx(1e-3 * 0.5**layers)
    assert (
        groups[f'layer_{layers}_no_decay']['weight_decay'] == 0 and groups['layer_3']['weight_decay'] == 0.05
    )
    assert wrapper.clip_grad_kwargs == dict(max_norm=1)
    assert sum(len(g['params']) for g in groups.values()) == len(list(net.parameters()))


@pytest.mark.parametrize(
    ('change', 'message'),
    [(dict(paramwise_cfg=dict(decay=0.5)), "'decay'"), (dict(optimizer=dict(type='AdamW')), 'needs lr')],
)
def test_constructor_rejects(change, message):
    config = (
        dict(constructor='LayerDecayOptimWrapperConstructor', optimizer=dict(type='AdamW', lr=1e-3)) | change
    )
    with pytest.raises(UserError, match=message):
        build_optim_wrapper(FasterViT('nano'), config)


def test_flat_shards_are_rejected():
    """FSDP's parameters have lost their shapes, which decide weight decay."""
    from torch.distributed.fsdp import FullyShardedDataParallel

    sharded = FullyShardedDataParallel.__new__(FullyShardedDataParallel)
    torch.nn.Module.__init__(sharded)
    constructor = LayerDecayOptimWrapperConstructor(
        dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3))
    )
    with pytest.raises(UserError, match=r'FSDP keeps flat shards: set .*DefaultOptimWrapperConstructor'):
        constructor(torch.nn.Sequential(sharded))


def test_importing_the_package_registers_what_configs_name():
    """Whatever imports it: a config of fastervit finetune trains with mmdet's own tools/train.py too."""
    code = """
import fastervit_backbone
from mmengine.registry import HOOKS, MODELS, OPTIM_WRAPPER_CONSTRUCTORS
names = [(HOOKS, 'EarlyStopping'), (OPTIM_WRAPPER_CONSTRUCTORS, 'LayerDecayOptimWrapperConstructor')]
names += [(MODELS, 'FasterViT'), (MODELS, 'TimmBackbone')]
assert all(registry.get(name).__module__.startswith('fastervit_backbone') for registry, name in names)
"""
    done = subprocess.run(
        [sys.executable, '-c', code],
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
