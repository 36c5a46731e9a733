"""Benchmarks behind fastervit benchmark."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path

import torch

from ..models.arch import STRIDES
from ..utils.command import command_line
from ..utils.errors import UserError
from ..utils.files import check_folder_writable
from .setting import Setting
from .throughput import Timing, compare, compare_steps, describe_machine, to_records
from .throughput_page import table, title, write_page


def run(
    *,
    models: Sequence[str],
    size: Sequence[str],
    batch: int,
    dtype: Sequence[str],
    device: str | None,
    channels_last: bool,
    compile: bool,
    train: bool,
    rounds: int,
    threads: int | None,
    stages: Callable[[Sequence[str], Setting, Path | None, str], object] | None = None,
    data: str | None,
    out: str | None,
    advise_size: tuple[int, int] | None = None,
    images: str | None = None,
    objects: int | None = None,
) -> None:
    """Measure, print tables and write the page; arguments are the options of the verb.

    ``stages`` is what ``--stages`` calls instead, with the models, the setting, the page and the command.

    Raises:
        UserError: something that cannot be measured, or a page that cannot be written.
    """
    if advise_size is not None:
        measures = any(value is not None for value in (data, stages, out, images)) or train
        _advise(models, advise_size, measures)
        return
    device = _choose_device(device, dtype)
    _check_numbers(rounds=rounds, batch=batch, threads=threads, objects=objects)
    if threads is not None:
        torch.set_num_threads(threads)
    path = None if out is None else Path(out)
    if path is not None:
        check_folder_writable('--out', path.parent)
    if data is not None:
        if models or stages is not None or images is not None:
            raise UserError(
                '--data measures a config, not models: leave out the models, --stages and --images'
            )
        _measure_data(data, path)
        return
    if not models:
        raise UserError('name at least one model, as in fastervit:2 (or --data CONFIG)')
    settings = []
    for text, name in product(size, dtype):
        count, hw = parse_size(text, batch)
        options = dict(channels_last=channels_last, compile=compile, train=train, objects=objects)
        settings.append(Setting(size=hw, batch=count, dtype=name, device=device, **options))
    is_plain = not (train or compile or channels_last)
    if images is not None:
        others = stages is not None or not is_plain or objects is not None
        if others or any(setting.batch != 1 for setting in settings):
            raise UserError(
                '--images measures predictions one by one: leave out --stages, --train, --compile, '
                '--channels-last, --objects and batches'
            )
        _measure_predictions(models, settings, images, rounds, path)
    elif stages is None:
        _measure_models(models, settings, rounds, path)
    elif len(settings) > 1 or not is_plain:
        raise UserError('--stages takes one --size, one --dtype, no --train, --compile, --channels-last')
    else:
        stages(models, settings[0], path, command_line())


def _check_numbers(**values: int | None) -> None:
    for option, value in values.items():
        if value is not None and value < 1:
            raise UserError(f'--{option} {value}: must be at least 1')


def parse_size(text: str, batch: int) -> tuple[int, tuple[int, int]]:
    """Parse '224', '800x1280' or '8x224x224' into (batch, (height, width)); ``batch`` is the default.

    Raises:
        UserError: anything else.
    """
    try:
        numbers = [int(n) for n in text.lower().split('x')]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2, 3) or min(numbers) < 1 or min(numbers[-2:]) < 32:
        raise UserError(
            f'--size {text}: expected HEIGHTxWIDTH or BATCHxHEIGHTxWIDTH, at least 32 pixels per side, '
            'as in 800x1280'
        )
    if len(numbers) == 1:
        return batch, (numbers[0], numbers[0])
    return (numbers[0] if len(numbers) == 3 else batch), (numbers[-2], numbers[-1])


def _advise(models: Sequence[str], size: tuple[int, int], measures: bool) -> None:
    from .advice import advice
    from .candidates import spec_named

    if measures:
        raise UserError(
            '--advise-size measures nothing: leave out --data, --stages, --images, --train and --out'
        )
    if min(size) < STRIDES[-1]:
        raise UserError(f'--advise-size {size[0]}x{size[1]}: must be at least {STRIDES[-1]} pixels per side')
    for name in models or ['fastervit:0']:
        print('\n'.join(advice(spec_named(name), name, size)))


def _choose_device(device: str | None, dtypes: Sequence[str]) -> str:
    cuda = torch.cuda.is_available()
    if device == 'cuda' and not cuda:
        raise UserError('--device cuda: torch finds no CUDA device')
    device = device or ('cuda' if cuda else 'cpu')
    if 'tf32' in dtypes and device == 'cpu':
        raise UserError('--dtype tf32 exists only on CUDA: use fp32, bf16 or fp16 on a CPU')
    return device


def _measure_data(config: str, out: Path | None) -> None:
    try:
        from .data_path import measure_data
    except ModuleNotFoundError as error:
        raise UserError(f'--data needs the package {error.name}: make setup installs it') from error
    measure_data(config, out, command_line())


def _measure_predictions(
    models: Sequence[str], settings: Sequence[Setting], folder: str, rounds: int, out: Path | None
) -> None:
    from .photographs import photograph_steps

    def measure(setting: Setting) -> tuple[Setting, list[Timing]]:
        steps, number = photograph_steps(models, folder, setting)
        setting = replace(setting, batch=number, photographs=True)
        return setting, compare_steps(steps, setting, rounds)

    _measure(measure, settings, out)


def _measure_models(
    models: Sequence[str], settings: Sequence[Setting], rounds: int, out: Path | None
) -> None:
    _measure(lambda setting: (setting, compare(models, setting, rounds)), settings, out)


def _measure(
    measure: Callable[[Setting], tuple[Setting, list[Timing]]], settings: Sequence[Setting], out: Path | None
) -> None:
    machine = describe_machine(settings[0].device)
    groups = []
    for wanted in settings:
        heading = title(asdict(wanted))
        try:
            setting, timings = measure(wanted)
            heading, rows = title(asdict(setting)), to_records(timings, setting, machine)
        except torch.OutOfMemoryError as error:
            raise UserError(f'{heading}: out of GPU memory, use fewer models or a smaller batch') from error
        groups.append(rows)
        print(f'\n{heading} ({machine["device"]}, {machine["threads"]} threads)\n\n{table(rows)}', flush=True)
        if out is not None:  # after each setting: nothing is lost if a later one fails
            paths = write_page(groups, out, command_line())
    if out is not None:
        print(f'\nwritten: {", ".join(map(str, paths))}')
