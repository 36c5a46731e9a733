import copy

import pytest
import torch

pytest.importorskip('mmdet')

from mmengine.config import Config

import fastervit_backbone  # noqa: F401 (before any config is read: it lets mmengine find mmseg's)
from fastervit_backbone.datasets.shapes import make_shapes
from fastervit_backbone.engine.config.adaptations import fit_norm_eval, fit_to_machine
from fastervit_backbone.engine.config.auto_scale_lr import scale_learning_rate
from fastervit_backbone.engine.config.channels import check_channels
from fastervit_backbone.engine.config.checks import check_data
from fastervit_backbone.engine.config.classes import fit_classes
from fastervit_backbone.engine.processes import process_rank, rank0_print, world_size
from fastervit_backbone.ops import stand_in
from fastervit_backbone.utils.errors import UserError
from tests.helpers import ROOT


@pytest.fixture(scope='module')
def coco():
    return Config.fromfile(ROOT / 'configs' / 'cascade_fastervit0_3x.py')


@pytest.fixture
def config(coco):
    return copy.deepcopy(coco)


def norms(config):
    return [head.norm_cfg.type for head in config.model.roi_head.bbox_head]


def test_sync_bn_runs_as_bn_in_one_process_and_on_the_cpu(config, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setenv('WORLD_SIZE', '2')
    monkeypatch.setattr(stand_in, 'is_active', lambda: False)
    assert fit_to_machine(config, 'pytorch') == [] and norms(config) == ['SyncBN'] * 3
    assert config.env_cfg.dist_cfg.backend == 'nccl'
    messages = fit_to_machine(copy.deepcopy(config), 'none')
    assert messages == ['SyncBN -> BN in 3 places in a single process: statistics are those of one process']
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert 'on the CPU' in fit_to_machine(config, 'pytorch')[0] and norms(config) == ['BN'] * 3
    assert config.env_cfg.dist_cfg.backend == 'gloo' and config.model_wrapper_cfg.device_ids is None
    with pytest.raises(UserError, match='--launcher slurm needs CUDA'):
        monkeypatch.setenv('SLURM_NTASKS', '2')
        fit_to_machine(config, 'slurm')


def test_missing_data_is_reported_with_place_and_remedy(config, monkeypatch, tmp_path):
    config.train_dataloader.dataset.data_root = str(tmp_path / 'coco') + '/'
    path = rf'{tmp_path}/coco/annotations/instances_train2017\.json'
    with pytest.raises(UserError, match=f'no annotations at {path}: get train2017.*COCO_ROOT'):
        check_data(config, ('train',))


def test_data_sets_inside_wrappers_are_found(tmp_path):
    root = make_shapes(tmp_path / 'shapes', train=2, val=1)
    config = Config.fromfile(ROOT / 'configs' / 'demo' / 'cascade_shapes.py')
    dataset = config.train_dataloader.dataset
    dataset.data_root = str(root)
    config.train_dataloader.dataset = dict(
        type='RepeatDataset', times=2, dataset=dict(type='ConcatDataset', datasets=[dataset, dataset])
    )
    check_data(config, ('train',))
    (root / 'annotations' / 'instances_train.json').write_text('{')
    with pytest.raises(UserError, match='broken JSON'):
        check_data(config, ('train',))


def test_classes_come_from_the_config_or_the_data_set(tmp_path):
    root = make_shapes(tmp_path / 'shapes', train=2, val=1)
    config = Config.fromfile(ROOT / 'configs' / 'demo' / 'cascade_shapes.py')
    config.train_dataloader.dataset.data_root = str(root)
    del config.train_dataloader.dataset['metainfo']  # leaves COCO's 80 classes
    with pytest.raises(
        UserError, match=r"no category 'person' .80 of the 80.*'circle', 'square', 'triangle'"
    ):
        check_data(config, ('train',))


def test_class_names_may_come_from_a_file(tmp_path):
    root = make_shapes(tmp_path / 'shapes', train=2, val=1)
    config = Config.fromfile(ROOT / 'configs' / 'demo' / 'cascade_shapes.py')
    config.train_dataloader.dataset.data_root = str(root)
    config.train_dataloader.dataset.metainfo = dict(classes=str(tmp_path / 'names.txt'))
    with pytest.raises(UserError, match='names no file'):
        check_data(config, ('train',))
    (tmp_path / 'names.txt').write_text('circle\nsquare\ntriangle\n')
    check_data(config, ('train',))


def test_a_config_without_a_model():
    with pytest.raises(UserError, match='has no model'):
        check_channels(Config(dict(train_cfg=dict())))


@pytest.fixture
def demo(tmp_path):
    root = make_shapes(tmp_path / 'shapes', train=2, val=1)
    config = Config.fromfile(ROOT / 'configs' / 'demo' / 'cascade_shapes.py')
    for split in ('train', 'val', 'test'):
        config[f'{split}_dataloader'].dataset.data_root = str(root)
    config.val_evaluator.ann_file = config.test_evaluator.ann_file = str(
        root / 'annotations' / 'instances_val.json'
    )
    return config


def test_evaluator_and_data_set_read_the_same_file(demo):
    check_data(demo, ('train', 'val', 'test'))
    demo.val_evaluator.ann_file = demo.val_evaluator.ann_file.replace('val.json', 'train.json')
    evaluated, loaded = (rf'.*instances_{split}\.json' for split in ('train', 'val'))
    with pytest.raises(
        UserError, match=rf'val_evaluator\.ann_file is {evaluated}, but the val data set has {loaded}'
    ):
        check_data(demo, ('val',))


def test_heads_and_palette_follow_the_classes(demo):
    for split in ('train', 'val', 'test'):
        demo[f'{split}_dataloader'].dataset.metainfo.classes = ('a', 'b', 'c', 'd')
    assert fit_classes(demo, 'train') == ['num_classes 3 -> 4 in 4 heads, to match the data set']
    assert fit_classes(demo, 'test') == []
    assert {demo[f'{split}_dataloader'].dataset.metainfo.palette for split in ('train', 'val', 'test')} == {
        'random'
    }
    demo.val_dataloader.dataset.metainfo.classes = ('a', 'b', 'c')
    with pytest.raises(
        UserError, match=r"train data has the classes \['a', 'b', 'c', 'd'\], the val data \['a', 'b', 'c'\]"
    ):
        fit_classes(demo, 'train')


def test_neck_channels_are_compared_with_the_backbone(config):
    check_channels(config)
    config.model.backbone.arch = 'nano'
    with pytest.raises(
        UserError,
        match=r'in_channels is \[64, 128, 256, 512\], but .*nano.* gives \[32, 64, 128, 256\]: --cfg-options',
    ):
        check_channels(config)
    config.model.backbone.arch = '7'
    with pytest.raises(UserError, match=r"model\.backbone: unknown arch '7'"):
        check_channels(config)


@pytest.mark.parametrize(
    ('batch', 'processes', 'change'),
    [(2, 1, '0.0001 -> 1.25e-05'), (2, 4, '0.0001 -> 5e-05'), (2, 8, ''), (4, 8, '0.0001 -> 0.0002')],
)
def test_learning_rate_follows_the_batch(config, capsys, batch, processes, change):
    config.train_dataloader.batch_size = batch
    scale_learning_rate(config, True, processes)
    assert config.auto_scale_lr.enable and config.optim_wrapper.optimizer.lr == 1e-4  # mmengine scales, once
    out = capsys.readouterr().out
    assert change in out if change else not out
    scale_learning_rate(config, False, processes)
    out = capsys.readouterr().out
    assert not config.auto_scale_lr.enable and ('kept' in out if change else not out)


def test_fewer_images_than_the_recipe_are_reported(capsys):
    upernet = Config.fromfile(ROOT / 'configs' / 'upernet_fastervit0_160k.py')
    scale_learning_rate(upernet, True, 1)  # batch 2 instead of 16
    out = capsys.readouterr().out
    assert 'learning rate 6e-05 is for batch 16; this run has 2: 6e-05 -> 7.5e-06' in out
    expected = '160000 iterations of 2 images see 0.125 times as many images as the recipe, 160000 of 16'
    assert f'{expected}: to match it, set train_cfg.max_iters=1280000' in out


def test_launcher_without_its_variables(monkeypatch):
    monkeypatch.delenv('SLURM_NTASKS', raising=False)
    assert world_size('none') == 1
    with pytest.raises(UserError, match='SLURM_NTASKS'):
        world_size('slurm')


def test_learning_rate_counts_accumulated_iterations(config, capsys):
    """2 images x 8 iterations are a step of 16, the batch of the recipe."""
    config.train_dataloader.batch_size, config.optim_wrapper.accumulative_counts = 2, 8
    scale_learning_rate(config, True, 1)
    assert not capsys.readouterr().out and config.auto_scale_lr.base_batch_size == 2  # mmengine: rate x 2 / 2
    config.auto_scale_lr.base_batch_size, config.optim_wrapper.accumulative_counts = 16, 4
    scale_learning_rate(config, True, 4)
    assert 'this run has 32 (8 x 4 accumulated): 0.0001 -> 0.0002' in capsys.readouterr().out
    assert config.auto_scale_lr.base_batch_size == 4  # x 8 / 4
    config.optim_wrapper.accumulative_counts = 0
    with pytest.raises(
        UserError, match=r'optim_wrapper\.accumulative_counts must be an integer of at least 1, got 0'
    ):
        scale_learning_rate(config, True, 1)
    upernet = Config.fromfile(ROOT / 'configs' / 'upernet_fastervit0_160k.py')
    upernet.optim_wrapper.accumulative_counts = 8
    scale_learning_rate(upernet, True, 1)
    out = capsys.readouterr().out
    assert 'learning rate' not in out  # a step has the recipe's 16 images, an iteration has fewer
    assert '160000 iterations of 2 images (20000 steps of 16) see 0.125 times as many images' in out
    assert 'max_iters=1280000' in out


def test_from_scratch_batch_norm_learns(config):
    assert fit_norm_eval(copy.deepcopy(config)) == []  # it has published weights
    config.model.backbone.init_cfg = None
    trained = copy.deepcopy(config)
    trained.load_from = 'model.pth'
    assert fit_norm_eval(trained) == [] and trained.model.backbone.norm_eval
    assert fit_norm_eval(config)[0].startswith('model.backbone.norm_eval True -> False: without pretrained')
    assert not config.model.backbone.norm_eval and fit_norm_eval(config) == []


@pytest.mark.parametrize(
    ('variables', 'rank'),
    [
        ({}, 0),
        (dict(RANK='3', SLURM_PROCID='1'), 3),
        (dict(SLURM_PROCID='2'), 2),
        (dict(OMPI_COMM_WORLD_RANK='1'), 1),
        (dict(OMPI_COMM_WORLD_RANK='1', SLURM_PROCID='0'), 1),  # mpirun inside a SLURM job
    ],
)
def test_only_the_first_process_prints(variables, rank, monkeypatch, capsys):
    for name in ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK'):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    rank0_print('a line')
    assert process_rank() == rank and (capsys.readouterr().out == 'a line\n') == (rank == 0)
