import pytest

pytest.importorskip('mmdet')

from fastervit_backbone.engine.config.load import load_config
from fastervit_backbone.utils.errors import UserError
from fastervit_cli.options import parse_value
from tests.helpers import ROOT

CONFIG = ROOT / 'configs' / 'cascade_fastervit4_3x.py'


@pytest.mark.parametrize(
    ('option', 'value'),
    [
        ('train_dataloader.batch_size', 4),  # set in the config
        ('model.roi_head.bbox_head.1.num_classes', 3),  # in a list
        ('model.backbone.with_cp', True),  # an argument of FasterViT
        ('train_dataloader.pin_memory', True),  # an argument of DataLoader
        ('optim_wrapper.clip_grad.max_norm', 1.0),  # inside an argument
        ('train_cfg.val_begin', 3),  # an argument of the loop
        ('model.neck.add_extra_convs', 'on_input'),  # an argument of mmdet's FPN
        ('randomness.seed', 3),  # the runner's
        ('load_from', 'x.pth'),
        ('auto_scale_lr.base_batch_size', 32),
        ('default_hooks.checkpoint.save_last', True),
        ('train_dataloader.dataset.indices', 8),  # of a base class
        ('sync_bn', 'torch'),
        ('optim_wrapper.paramwise_cfg.decay_rate', 0.9),
    ],
)
def test_existing_options_can_be_set(option, value):
    config = load_config(CONFIG, {option: value})
    for part in option.split('.'):
        config = config[int(part)] if isinstance(config, list) else config[part]
    assert config == value


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('model.backbone.archs', r"model\.backbone has no option 'archs' \(did you mean 'arch'\?\)"),
        ('model.backbone.use_checkpoint', "no option 'use_checkpoint'"),
        ('train_dataloader.batchsize', "did you mean 'batch_size'"),
        (
            'train_dataloder.batch_size',
            r"the config has no option 'train_dataloder' \(did you mean 'train_dataloader'\?\)",
        ),
        ('model.roi_head.bbox_head.3.num_classes', "bbox_head has no option '3'"),
        ('model.backbone.arch.dim', "model.backbone.arch has no option 'dim'"),
        ('model.backbone.with_cp.foo', 'with_cp is False by default, which has no options'),
        ('data_root', 'it is a variable of the config file'),
        ('optim_wrapper.optimizer.learning_rate', "no option 'learning_rate'"),
    ],
)
def test_unknown_options_are_named(option, message):
    with pytest.raises(UserError, match=message) as error:
        load_config(CONFIG, {option: 1})
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('option', 'value', 'message'),
    [
        ('train_cfg.max_epochs', 'abc', 'max_epochs=abc: it must be a number, and is 36 now'),
        ('train_dataloader', 3, r'that is a group of options \(.*batch_size.*set one of them'),
        ('model.backbone.drop_path_rate', 'none', 'must be a number'),
    ],
)
def test_values_of_the_wrong_kind(option, value, message):
    with pytest.raises(UserError, match=message):
        load_config(CONFIG, {option: value})


def test_a_type_and_its_own_options_are_set_together():
    options = {
        'optim_wrapper.loss_scale': 'dynamic',
        'optim_wrapper.dtype': 'bfloat16',
        'optim_wrapper.type': 'AmpOptimWrapper',
    }
    assert load_config(CONFIG, options).optim_wrapper.dtype == 'bfloat16'
    with pytest.raises(UserError, match="no option 'loss_scale'"):
        load_config(CONFIG, {'optim_wrapper.loss_scale': 'dynamic'})
    with pytest.raises(UserError, match="did you mean 'max_norm'"):
        load_config(CONFIG, {'optim_wrapper.clip_grad.max_norm': 1, 'optim_wrapper.clip_grad.max_nrom': 1})


def test_misspelled_keys_in_a_config_are_found_and_variables_are_not(tmp_path):
    (tmp_path / 'typo.py').write_text(f'_base_ = {str(CONFIG)!r}\ntrain_dataloder = dict(batch_size=1)\n')
    with pytest.raises(
        UserError, match=r"has the unknown key 'train_dataloder' \(did you mean 'train_dataloader'\?\)"
    ):
        load_config(tmp_path / 'typo.py')
    (tmp_path / 'fine.py').write_text(
        f'_base_ = {str(CONFIG)!r}\nval_pipeline = my_evaluation = metainfo = train_transform = None\n'
    )
    load_config(tmp_path / 'fine.py')


def test_missing_and_broken_configs(tmp_path):
    with pytest.raises(
        UserError,
        match=r"no config at .*cascade_fastervit_3x\.py \(did you mean 'cascade_fastervit\d_3x\.py'",
    ):
        load_config(CONFIG.with_name('cascade_fastervit_3x.py'))
    (tmp_path / 'broken.py').write_text('model = dict(\n')
    with pytest.raises(UserError, match=r'cannot read config .*broken\.py: SyntaxError'):
        load_config(tmp_path / 'broken.py')


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('4', 4),
        ('1e-4', 1e-4),
        ('None', None),
        ('true', True),
        ('[1,2]', [1, 2]),
        ("('a','b')", ('a', 'b')),
        ('1,2', (1, 2)),
        ('a,b', ['a', 'b']),
        ('a b', 'a b'),
        ('/data/x.json', '/data/x.json'),
        ('', ''),
        ('[a,b]', ['a', 'b']),
        ('[a, 1, x.json]', ['a', 1, 'x.json']),
        ('[', '['),
        ("dict(type='X')", "dict(type='X')"),
        ("[{'type': 'X'}]", [{'type': 'X'}]),
        ("'4'", '4'),
    ],
)
def test_values_on_the_command_line(text, value):
    assert parse_value(text) == value
