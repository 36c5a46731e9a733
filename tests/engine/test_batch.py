"""What follows the batch: rates and their ends, warm-ups and averages, in every config."""

import copy

import pytest

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

from mmengine.config import Config
from mmengine.hooks import EMAHook

from fastervit_backbone.engine.config.auto_scale_lr import (
    accumulated_iterations,
    count_in_steps,
    scale_learning_rate,
)
from fastervit_backbone.engine.config.load import load_config
from fastervit_backbone.engine.config.reading import as_list
from fastervit_backbone.utils.errors import UserError
from tests.helpers import CASCADE, ROOT

LEAVES = sorted(p for p in (ROOT / 'configs').rglob('*.py') if '_base_' not in p.parts)
SCENARIOS = {
    'its own batch': lambda base: {'train_dataloader.batch_size': base},
    'one GPU': lambda base: {},
    'batch 2 x 8': lambda base: {
        'train_dataloader.batch_size': 2,
        'optim_wrapper.accumulative_counts': 8,
    },
}


def prepared(file, options):
    config = copy.deepcopy(file)
    config.merge_from_dict(options)
    count_in_steps(config)
    scale_learning_rate(config, True, 1)
    return config


def shape(config, peak):
    """Each rate's schedule: start and end as shares of the peak, begin and end in steps or epochs."""
    accumulated, rows = accumulated_iterations(config), []
    total = config.train_cfg.get('max_iters')
    for schedule in as_list(config.param_scheduler):
        per = 1 if schedule.get('by_epoch', True) else accumulated
        ends = [
            None if schedule.get(key) in (None, total) else schedule[key] / per for key in ('begin', 'end')
        ]
        low = pytest.approx((schedule.get('eta_min') or 0.0) / peak, rel=1e-6)
        rows.append((schedule.type, schedule.get('start_factor'), *ends, low))
    averages = [
        hook.get('interval', 1) / accumulated
        for hook in as_list(config.get('custom_hooks'))
        if hook.type == EMAHook.__name__
    ]
    return rows, averages


@pytest.mark.parametrize('path', LEAVES, ids=[str(p.relative_to(ROOT / 'configs')) for p in LEAVES])
def test_the_schedule_has_one_shape(path, capsys):
    file = load_config(path)
    base = file.auto_scale_lr.base_batch_size
    shapes = []
    for options in SCENARIOS.values():
        config = prepared(file, options(base))
        per_step = config.train_dataloader.batch_size * accumulated_iterations(config)
        peak = config.optim_wrapper.optimizer.lr * per_step / base
        assert all((s.get('eta_min') or 0.0) < peak for s in as_list(config.param_scheduler))
        shapes.append(shape(config, peak))
    assert shapes[0] == shapes[1] == shapes[2]
    assert all(interval == 1 for interval in shapes[0][1])


def test_an_option_stretches_and_a_file_does_not(tmp_path):
    own = tmp_path / 'own.py'
    own.write_text(
        f'_base_ = {str(CASCADE)!r}\n'
        'optim_wrapper = dict(accumulative_counts=2)\n'
        "param_scheduler = [dict(type='LinearLR', by_epoch=False, begin=0, end=40, start_factor=0.1)]\n"
        "custom_hooks = [dict(type='EMAHook')]\n"
    )
    config = load_config(own)
    count_in_steps(config)
    assert config.param_scheduler[0].end == 40 and config.custom_hooks[0].interval == 2
    config = load_config(own, {'optim_wrapper.accumulative_counts': 8})
    said = count_in_steps(config)
    assert config.param_scheduler[0].end == 160 and config.custom_hooks[0].interval == 8
    assert '40 steps of warm-up in 160 iterations' in said[0]
    config.dump(tmp_path / 'written.py')  # as in a work dir: read again, it means the same
    again = load_config(tmp_path / 'written.py')
    count_in_steps(again)
    assert again.param_scheduler == config.param_scheduler and again.custom_hooks == config.custom_hooks


@pytest.mark.parametrize('enabled', [True, False])
def test_a_rate_that_would_rise_to_its_minimum(enabled):
    config = Config(
        dict(
            train_dataloader=dict(batch_size=4),
            train_cfg=dict(max_epochs=3),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=1e-3)),
            param_scheduler=[dict(type='CosineAnnealingLR', eta_min=2e-3)],
            auto_scale_lr=dict(base_batch_size=4),
        )
    )
    with pytest.raises(UserError, match=r'would rise to the eta_min 0\.002 of CosineAnnealingLR'):
        scale_learning_rate(config, enabled, 1)


def test_a_warm_up_that_does_not_fit():
    options = {'optim_wrapper.accumulative_counts': 200}
    with pytest.raises(UserError, match=r'1500 steps take 300000 iterations .* but the run has 160000'):
        count_in_steps(load_config(ROOT / 'configs' / 'upernet_fastervit0_160k.py', options))


def test_options_that_follow_the_advice_or_set_the_schedule():
    path = ROOT / 'configs' / 'upernet_fastervit0_160k.py'
    accumulated = {'optim_wrapper.accumulative_counts': 4}
    config = load_config(path, accumulated | {'train_cfg.max_iters': 640000})
    count_in_steps(config)
    assert (config.param_scheduler[0].end, config.param_scheduler[1].begin) == (6000, 6000)
    config = load_config(path, accumulated | {'train_cfg.max_iters': 20000})
    count_in_steps(config)
    assert config.param_scheduler[0].end == 6000
    config = load_config(path, accumulated | {'param_scheduler.0.end': 6000, 'param_scheduler.1.begin': 6000})
    count_in_steps(config)
    assert (config.param_scheduler[0].end, config.param_scheduler[1].begin) == (6000, 6000)


def test_odd_values_are_left_to_the_checks():
    config = Config(
        dict(
            train_cfg=dict(max_epochs=3),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=1e-3), accumulative_counts=None),
            custom_hooks=[dict(type=EMAHook), EMAHook()],
            param_scheduler=[dict(type='ReduceOnPlateauLR', min_value=[1e-5])],
            train_dataloader=dict(batch_size=8),
            auto_scale_lr=dict(base_batch_size=4),
        )
    )
    count_in_steps(config)
    with pytest.raises(UserError, match='accumulative_counts must be an integer'):
        scale_learning_rate(config, True, 1)
    config.optim_wrapper.accumulative_counts = 2
    count_in_steps(config)
    assert config.custom_hooks[0]['interval'] == 2
    scale_learning_rate(config, True, 1)
    assert config.param_scheduler[0].min_value == [1e-5]


def test_a_longer_run_has_a_longer_schedule(capsys):
    """Half the batch, and as many iterations more as the message says; then there is nothing more to say."""
    config = load_config(ROOT / 'configs' / 'upernet_fastervit0_160k.py', {'train_dataloader.batch_size': 8})
    scale_learning_rate(config, True, 1)
    assert 'set train_cfg.max_iters=320000' in capsys.readouterr().out
    options = {'train_dataloader.batch_size': 8, 'train_cfg.max_iters': 320000}
    config = load_config(ROOT / 'configs' / 'upernet_fastervit0_160k.py', options)
    said = ''.join(count_in_steps(config))
    scale_learning_rate(config, True, 1)
    said += capsys.readouterr().out
    assert 'ends with the run: 160000 -> 320000 iterations' in said and 'times as many images' not in said
    assert config.param_scheduler[-1].end == 320000


def test_a_backbone_below_the_minimum():
    config = load_config(CASCADE, {'param_scheduler.1.eta_min': 5e-4})
    scale_learning_rate(config, True, 1)
    config.optim_wrapper.paramwise_cfg = dict(backbone_lr_mult=0.1)
    with pytest.raises(UserError, match=r'the learning rate 0\.00016 would rise to the eta_min'):
        scale_learning_rate(config, True, 1)


def test_an_interval_by_option_stays(tmp_path):
    own = tmp_path / 'own.py'
    own.write_text(f"_base_ = {str(CASCADE)!r}\ncustom_hooks = [dict(type='EMAHook', interval=2)]\n")
    options = {'optim_wrapper.accumulative_counts': 4}
    for more, interval in (({}, 8), ({'custom_hooks.0.interval': 4}, 4)):
        config = load_config(own, options | more)
        count_in_steps(config)
        assert config.custom_hooks[0].interval == interval
