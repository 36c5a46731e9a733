"""Two processes (torchrun, gloo) against one: same loss for the same global batch, same metrics."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

from fastervit_backbone.datasets.shapes import make_shapes
from fastervit_backbone.engine.hooks import save_on_signal
from tests.helpers import FEW_REGIONS, QUICK, ROOT, SHALLOW_CASCADE
from tests.mm_helpers import save_untrained
from tests.processes import COMMAND, TORCHRUN, environment, ranks, script, verb

#: Keeps losses and image names. The configs below use no randomness and no batch statistics, so that the loss
#: does not depend on how a batch is split.
KEEP_LOSSES = """
import json, os
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class KeepLosses(Hook):
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        names = [os.path.basename(s.img_path) for s in data_batch['data_samples']]
        losses = {key: value.item() for key, value in outputs.items()}
        path = os.path.join(runner.work_dir, 'losses_' + os.environ.get('RANK', '0') + '.json')
        with open(path, 'w') as file:
            json.dump([losses, names], file)
"""
CONFIGS = {
    'fpn': """
train_cfg = dict(max_iters=1, val_interval=9)
model = dict(backbone=dict(norm_eval=True))
norm = dict(_delete_=True, type='GN', num_groups=8)
model['decode_head'] = dict(dropout_ratio=0, norm_cfg=norm, loss_decode=dict(class_weight=None))
""",
    'dino': """
train_cfg = dict(max_epochs=1, val_interval=9)
train_dataloader = dict(batch_sampler=None)
model = dict(backbone=dict(norm_eval=True))
""",
}


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    return make_shapes(tmp_path_factory.mktemp('data') / 'shapes', train=4, val=3, size=(96, 128))


@pytest.mark.parametrize('head', CONFIGS)
def test_the_same_loss_for_the_same_global_batch(head, shapes, tmp_path):
    (tmp_path / 'keep_losses.py').write_text(KEEP_LOSSES)
    base = ROOT / 'configs' / 'demo' / f'{head}_shapes.py'
    config, start = tmp_path / 'fixed.py', save_untrained(base, tmp_path / 'start.pth')
    load = "[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'%s), dict(type='Pack%sInputs')]"
    pipeline = load % ((', with_bbox=True', 'Det') if head == 'dino' else ('', 'Seg'))
    config.write_text(
        f'_base_ = {str(base)!r}\n'
        "custom_imports = dict(imports=['fastervit_backbone', 'keep_losses'])\n"
        f"custom_hooks = [dict(type='KeepLosses')]\nload_from = {str(start)!r}\n{CONFIGS[head]}\n"
        f'train_dataloader = dict(dataset=dict(pipeline={pipeline}))\n'
    )
    variables = dict(SHAPES_ROOT=str(shapes), PYTHONPATH=f'{ROOT}:{tmp_path}')
    options = [config, '--seed', '3', '--cfg-options', *QUICK]

    def losses(run, size, work):
        arguments = [*options, f'train_dataloader.batch_size={size}', f'work_dir={work}']
        if size == 2:
            arguments += ['--launcher', 'pytorch']
        done = run(ROOT / 'tools' / 'train.py', *arguments, cwd=tmp_path, **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        records = [json.loads(path.read_text()) for path in sorted(work.glob('losses_*.json'))]  # per process
        means = {key: sum(losses[key] for losses, _ in records) / len(records) for key in records[0][0]}
        return means, [set(images) for _, images in records]

    single, all_images = losses(script, 4, tmp_path / 'one')
    distributed, shares = losses(ranks, 2, tmp_path / 'two')
    assert len(shares) == 2 and shares[0] | shares[1] == all_images[0] and not shares[0] & shares[1]
    # each process draws its own noise for denoising queries
    compared = [k for k in single if 'loss_' in k and 'dn_' not in k]
    assert len(compared) == (1 if head == 'fpn' else 4 * 3)
    for key in compared:
        assert distributed[key] == pytest.approx(single[key], rel=1e-5), key


@pytest.mark.parametrize(
    ('ending', 'code'),
    [('', 0), ('raise UserError("bad")', 2)]
    + [pytest.param(ending, 1, marks=pytest.mark.slow) for ending in ('sys.exit(1)', '1 / 0')],
)
def test_exit_of_a_distributed_process(ending, code, tmp_path):
    """Exit code, output and atexit handlers are kept, although C++'s static destructors are skipped."""
    script = f"""
import atexit, sys
import torch.distributed as dist
from fastervit_cli.console import run_cli
from fastervit_backbone.utils.errors import UserError

def main():
    dist.init_process_group('gloo', init_method='file://{tmp_path}/meet', rank=0, world_size=1)
    atexit.register(print, 'registered')
    print('printed')
    {ending}

run_cli(main)
"""
    done = subprocess.run(
        [sys.executable, '-c', script], env=environment(), capture_output=True, text=True, timeout=100
    )
    assert done.returncode == code, done.stderr
    assert done.stdout == 'printed\nregistered\n'
    assert ('error: bad' in done.stderr) == (code == 2) and ('ZeroDivisionError' in done.stderr) == (
        ending == '1 / 0'
    )


def test_the_same_miou(shapes, tmp_path):
    """Three images over two processes: none is scored twice, with test-time augmentation too."""
    config = ROOT / 'configs' / 'demo' / 'fpn_shapes.py'
    variables = dict(SHAPES_ROOT=str(shapes))
    train = [
        '--work-dir',
        'work',
        '--cfg-options',
        *QUICK,
        'train_cfg.max_iters=4',
        'train_cfg.val_interval=9',
        'train_dataloader.batch_size=2',
    ]
    done = verb('train', config, *train, 'default_hooks.checkpoint.interval=4', cwd=tmp_path, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    for tta in ([], ['--tta']):
        test = [config, 'work', '--work-dir', 'test', *tta, '--cfg-options', *QUICK]
        single = verb('test', *test, '--out', 'single.json', cwd=tmp_path, **variables)
        assert single.returncode == 0, single.stderr
        both = [*test, '--launcher', 'pytorch', '--out', 'distributed.json']
        distributed = ranks(ROOT / 'tools' / 'test.py', *both, cwd=tmp_path, **variables)
        assert distributed.returncode == 0, distributed.stderr
        metrics = [
            json.loads((tmp_path / f'{name}.json').read_text())['metrics']
            for name in ('single', 'distributed')
        ]
        assert metrics[0] == metrics[1] and metrics[0]['mIoU'] > 0


def test_the_fsdp_config_of_the_docs_builds(tmp_path):
    """As far as possible without a GPU: it loads, and mmengine builds its strategy and finds its policy."""
    from mmengine._strategy import FSDPStrategy
    from mmengine.registry import FUNCTIONS, RUNNERS, STRATEGIES

    from fastervit_backbone.engine.config.load import load_config

    blocks = re.findall(r'```python\n(.*?)```', (ROOT / 'docs' / 'distributed.md').read_text(), re.DOTALL)
    (block,) = (block for block in blocks if 'FSDPStrategy' in block)
    path = tmp_path / 'fsdp.py'
    path.write_text(block.replace('/path/to/fastervit_backbone', str(ROOT)))
    config = load_config(path)
    assert RUNNERS.get(config.runner_type).__name__ == 'FlexibleRunner'
    assert callable(FUNCTIONS.get(config.strategy.model_wrapper.auto_wrap_policy.type))
    assert isinstance(STRATEGIES.build(dict(config.strategy, work_dir=str(tmp_path))), FSDPStrategy)
    assert config.optim_wrapper.paramwise_cfg == dict(norm_decay_mult=0.0, bias_decay_mult=0.0)


@pytest.mark.long
def test_interrupted(shapes, tmp_path):
    """On a signal to all, every process exits only after the checkpoint is written."""
    options = [
        *QUICK,
        'train_cfg.max_epochs=40',
        'train_cfg.val_interval=40',
        'train_dataloader.batch_size=1',
        'default_hooks.logger.interval=1',
    ]
    command = [
        *TORCHRUN,
        str(ROOT / 'tools' / 'train.py'),
        str(ROOT / 'configs' / 'demo' / 'cascade_shapes.py'),
        '--launcher',
        'pytorch',
    ]
    command += ['--work-dir', 'work', '--verbose', '--cfg-options', *options]
    log = tmp_path / 'run.log'
    with log.open('w') as file:
        run = dict(
            cwd=tmp_path,
            env=environment(SHAPES_ROOT=str(shapes)),
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
        process = subprocess.Popen(command, **run)
        while process.poll() is None and '[2][1/2]' not in log.read_text():
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(120) != 0
    assert 'stopped: SIGTERM at iteration' in log.read_text(), log.read_text()
    meta = torch.load(tmp_path / 'work' / 'interrupted.pth', weights_only=False)['meta']
    assert 3 <= meta['iter'] < 80


def test_a_signal_while_the_processes_agree_stops_all_one_step_later(monkeypatch):
    """The other processes do not know it yet, and would wait for this one in the next step."""
    hook = save_on_signal.SaveOnSignalHook()
    runner = SimpleNamespace(model=torch.nn.Linear(1, 1), optim_wrapper=None, epoch=0, iter=0)
    stopped = []
    monkeypatch.setattr(save_on_signal, 'get_world_size', lambda: 2)
    monkeypatch.setattr(save_on_signal, 'all_reduce', lambda *_: hook._receive(signal.SIGTERM, None))
    monkeypatch.setattr(hook, '_stop', lambda _, received, meta: stopped.append((received, meta['iter'])))
    hook.after_train_iter(runner, 0)
    assert not stopped
    runner.iter = 1
    hook.after_train_iter(runner, 1)
    assert stopped == [(signal.SIGTERM, 2)]


def test_an_infinite_loss_in_one_of_two(tmp_path):
    """Both processes skip the step, and both stop after two in a row: neither waits for the other."""
    path = tmp_path / 'infinite.py'
    path.write_text(
        """
import sys
from functools import partial
from types import SimpleNamespace
import torch, torch.distributed as dist
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.structures import BaseDataElement
from fastervit_backbone.engine.hooks.non_finite_guard import NonFiniteGuardHook
from fastervit_backbone.utils.errors import UserError
from tests.mm_helpers import InfiniteLoss

dist.init_process_group('gloo')
rank = dist.get_rank()
torch.manual_seed(0)
model = MMDistributedDataParallel(InfiniteLoss(), broadcast_buffers=False)
wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
logger = SimpleNamespace(warning=print)
runner = SimpleNamespace(optim_wrapper=wrapper, model=model, logger=logger, work_dir=sys.argv[1])
vars(runner).update(iter=0, epoch=0, seed=0, rank=rank)
guard = NonFiniteGuardHook(2)
guard.before_train(runner)
before = [p.clone() for p in model.parameters()]
try:
    for _ in range(3):
        inputs = torch.randn(4, 2) + (11 if rank == 1 else 0)
        batch = dict(inputs=inputs, data_samples=[BaseDataElement(metainfo=dict(img_id=100 + rank))])
        guard.before_train_iter(runner, 0, batch)
        outputs = model.train_step(batch, wrapper)
        guard.after_train_iter(runner, 0, batch, outputs)
        runner.iter += 1
except UserError as error:
    same = all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    (open(f'{sys.argv[1]}/{rank}.txt', 'w')).write(f'{runner.iter} {same} {str(error)[:30]}')
dist.barrier()
"""
    )
    done = ranks(path, tmp_path, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert [(tmp_path / f'{rank}.txt').read_text() for rank in (0, 1)] == [
        '1 True the loss was not finite in 2 s'
    ] * 2
    report = json.loads((tmp_path / 'non_finite.json').read_text())  # of the process whose loss it was
    assert [image['id'] for image in report['images']] == [101] and report['losses'] == {'loss': 'inf'}


@pytest.mark.long
def test_one_process_checks_the_data(shapes, tmp_path):
    """The first process finds the error and reports it once; the other one exits too."""
    root = tmp_path / 'broken'
    shutil.copytree(shapes, root)
    (root / 'annotations' / 'instances_train.json').write_text('{')
    (tmp_path / 'record_checks.py').write_text(
        'import os\nfrom fastervit_backbone.engine.config import checks\ncheck = checks.check_coco\n'
        'def recorded(*args, **kwargs):\n'
        f"    open('{tmp_path}/checked_' + os.environ['RANK'], 'a').write('x')\n"
        '    return check(*args, **kwargs)\nchecks.check_coco = recorded\n'
    )
    config = tmp_path / 'config.py'
    config.write_text(
        f'_base_ = {str(ROOT / "configs" / "demo" / "cascade_shapes.py")!r}\n'
        "custom_imports = dict(imports=['fastervit_backbone', 'record_checks'])\n"
    )
    command = [
        *TORCHRUN,
        str(ROOT / 'tools' / 'train.py'),
        str(config),
        '--launcher',
        'pytorch',
        '--work-dir',
        str(tmp_path / 'work'),
    ]
    variables = dict(SHAPES_ROOT=str(root), PYTHONPATH=f'{ROOT}{os.pathsep}{tmp_path}')
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(**variables), capture_output=True, text=True, timeout=300
    )
    assert done.returncode != 0
    assert len(re.findall(r'error: .*instances_train\.json is broken JSON', done.stderr)) == 1, done.stderr
    assert sorted(p.name for p in tmp_path.glob('checked_*')) == ['checked_0']
    assert re.findall(r'exitcode\s*: (\d+)', done.stderr)[:1] == ['2'], done.stderr


@pytest.mark.long
def test_prediction_in_two_processes(shapes, tmp_path):
    """Killed in two processes and finished by one: the results are those of one run of one process."""
    checkpoint = save_untrained(ROOT / 'configs' / 'demo' / 'cascade_shapes.py', tmp_path / 'model.pth')
    source = sorted((shapes / 'images' / 'val').glob('*.png'))
    for i in range(30):
        path = tmp_path / 'many' / f'{i % 3}' / f'{i:02}.{"png" if i % 7 else "jpg"}'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source[i % len(source)].read_bytes())
    (tmp_path / 'many' / 'broken.png').write_text('no image')
    predict = [str(COMMAND), 'predict']
    arguments = [str(ROOT / 'configs' / 'demo' / 'cascade_shapes.py'), str(checkpoint), 'many', '--threshold']
    arguments += ['0', '--device', 'cpu', '--out']

    def results(out):
        files = {p.relative_to(tmp_path / out): p.read_bytes() for p in (tmp_path / out).rglob('*.jpg')}
        return json.loads((tmp_path / out / 'predictions.json').read_text()), files

    whole = script(*predict, *arguments, 'whole', cwd=tmp_path)
    assert whole.returncode == 1 and 'skipped' in whole.stdout, whole.stderr
    both = ranks(*predict, *arguments, 'both', cwd=tmp_path)
    assert '30 images' in both.stdout and both.stdout.count('skipped') == 1, both.stdout + both.stderr
    assert results('both') == results('whole') and len(results('whole')[1]) == 30
    logs = sorted((tmp_path / 'both').glob('.journal.jsonl*'))
    assert [path.read_bytes().count(b'\n') for path in logs] in ([16, 16], [17, 15])

    process = subprocess.Popen(
        [*TORCHRUN, *predict, *arguments, 'killed'],
        cwd=tmp_path,
        env=environment(),
        start_new_session=True,
    )
    log = tmp_path / 'killed' / '.journal.jsonl.1'
    while process.poll() is None and not (log.is_file() and log.read_bytes().count(b'\n') > 4):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(0.5)
    with log.open('a') as file:
        file.write('{"source": "half a li')
    deadline = time.monotonic() + 60
    while True:
        again = script(*predict, *arguments, 'killed', cwd=tmp_path)
        if 'another run is writing' not in again.stderr or time.monotonic() > deadline:
            break  # torchrun's processes notice its end within a second or two
    assert 'already done' in again.stdout, again.stdout + again.stderr
    assert results('killed') == results('whole')


def test_finetuning_in_two_processes(shapes, tmp_path):
    """One command: a plan, a training in both processes, one best checkpoint, and a resume."""
    splits = [str(shapes / 'annotations' / f'instances_{split}.json') for split in ('train', 'val')]
    images = [str(shapes / 'images' / split) for split in ('train', 'val')]
    command = [COMMAND, 'finetune', '--train', splits[0], '--val', splits[1]]
    command += ['--images', *images, '--arch', 'nano', '--preset', 'quick', '--work-dir', 'run']
    done = ranks(*command, '--batch', '1', '--accumulate', '2', '--epochs', '3', cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '1 x 2 accumulated x 2 processes' in done.stdout
    assert done.stdout.count('best: mask AP') == 1 and (tmp_path / 'run' / 'best.pth').is_file()
    assert 'auto_scale_lr = dict(base_batch_size=4)' in (tmp_path / 'run' / 'finetune.py').read_text()
    meta = torch.load(tmp_path / 'run' / 'epoch_3.pth', weights_only=False)['meta']
    assert meta['iter'] == 6  # 4 images: 2 iterations an epoch in 2 processes
    (tmp_path / 'run' / 'epoch_3.pth').unlink()
    (tmp_path / 'run' / 'last_checkpoint').write_text(str(tmp_path / 'run' / 'epoch_2.pth'))
    done = ranks(*command, '--resume', cwd=tmp_path)
    assert done.returncode == 0 and (tmp_path / 'run' / 'epoch_3.pth').is_file(), done.stdout + done.stderr
    bad = ranks(*command[:-1], 'other', '--model', 'fpn', cwd=tmp_path)
    assert bad.returncode != 0 and bad.stderr.count('error: --model fpn learns from label-map') == 1, (
        bad.stderr
    )


@pytest.mark.parametrize('averaged', [False, True])
def test_validation_is_of_the_checkpoint(averaged, shapes, tmp_path):
    """BatchNorm has other statistics in every process: all evaluate with those that are saved."""
    options = ['--work-dir', 'work', '--seed', '3', '--cfg-options', 'train_cfg.max_iters=4']
    options += ['train_cfg.val_interval=4', 'train_dataloader.batch_size=2', 'model.backbone.norm_eval=False']
    options += ['model.decode_head.loss_decode.class_weight=None', 'optim_wrapper.optimizer.lr=0.01']
    if averaged:
        ema = dict(type='EMAHook', ema_type='ExponentialMovingAverage', momentum=0.4, update_buffers=True)
        options += [f'custom_hooks=[{ema}]']
    config, variables = ROOT / 'configs' / 'demo' / 'fpn_shapes.py', dict(SHAPES_ROOT=str(shapes))
    done = ranks(COMMAND, 'train', config, '--launcher', 'pytorch', *options, cwd=tmp_path, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    logs = [
        json.loads(line) for path in tmp_path.glob('work/*/vis_data/scalars.json') for line in path.open()
    ]
    (validated,) = [log for log in logs if 'mIoU' in log]
    done = verb('test', config, 'work/iter_4.pth', '--out', 'metrics.json', cwd=tmp_path, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    tested = json.loads((tmp_path / 'metrics.json').read_text())['metrics']
    names = ('mIoU', 'aAcc', 'mAcc')
    assert [validated[name] for name in names] == pytest.approx([tested[name] for name in names])


def test_a_process_without_an_image(tmp_path):
    """One image for two processes has the figures of one process."""
    data = make_shapes(tmp_path / 'shapes', train=1, val=1, size=(64, 96))
    checkpoint = save_untrained(SHALLOW_CASCADE, tmp_path / 'model.pth')
    options = ['--cfg-options', 'model.test_cfg.rcnn.score_thr=0.0']
    options += [f'{key}={value}' for key, value in FEW_REGIONS.items()]
    figures = []
    for run, extra in ((verb, []), (partial(ranks, COMMAND), ['--launcher', 'pytorch'])):
        out = tmp_path / f'{len(figures)}.json'
        arguments = ['test', SHALLOW_CASCADE, checkpoint, '--out', out, *extra, *options]
        done = run(*arguments, cwd=tmp_path, SHAPES_ROOT=str(data))
        assert done.returncode == 0, done.stdout + done.stderr
        figures.append(json.loads(out.read_text())['metrics'])
    assert figures[0] == figures[1]


SLOW = """
import os, time
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class SlowHook(Hook):
    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if os.environ.get('RANK') == '1' and batch_idx == 0:
            time.sleep(9)
"""


@pytest.mark.long
def test_a_slow_process_is_waited_for(shapes, tmp_path):
    """For longer than half the timeout: the same figures; for longer than all of it: one line."""
    (tmp_path / 'slow.py').write_text(SLOW)
    checkpoint, config = save_untrained(SHALLOW_CASCADE, tmp_path / 'model.pth'), tmp_path / 'slow_cascade.py'
    config.write_text(
        f'_base_ = {str(SHALLOW_CASCADE)!r}\n'
        "custom_imports = dict(imports=['fastervit_backbone', 'slow'])\n"
        "custom_hooks = [dict(type='SlowHook')]\n"
    )
    variables = dict(SHAPES_ROOT=str(shapes), PYTHONPATH=f'{ROOT}:{tmp_path}')
    options = ['--cfg-options', 'model.test_cfg.rcnn.score_thr=0.0']
    options += [f'{key}={value}' for key, value in FEW_REGIONS.items()]

    def run(start, out, *more):
        arguments = ['test', config, checkpoint, '--out', out, *more[:2], *options, *more[2:]]
        return start(*arguments, cwd=tmp_path, **variables)

    assert run(verb, 'one.json').returncode == 0
    of_two = partial(ranks, COMMAND)
    waited = run(of_two, 'two.json', '--launcher', 'pytorch', 'env_cfg.dist_cfg.timeout=16')
    assert waited.returncode == 0, waited.stdout + waited.stderr
    figures = [json.loads((tmp_path / f'{n}.json').read_text())['metrics'] for n in ('one', 'two')]
    assert figures[0] == figures[1]
    given_up = run(of_two, 'three.json', '--launcher', 'pytorch', 'env_cfg.dist_cfg.timeout=3')
    assert given_up.returncode != 0 and not (tmp_path / 'three.json').exists()
    assert 'error: another process did not answer in time' in given_up.stderr, given_up.stderr
    assert 'Traceback' not in given_up.stderr, given_up.stderr
