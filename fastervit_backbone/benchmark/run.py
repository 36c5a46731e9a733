"""What tools/benchmark.py does with its options."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path

import torch

from ..utils.errors import UserError
from ..utils.files import check_folder_writable
from .candidates import Setting
from .throughput import compare, machine, record
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
    stages: bool,
    data: str | None,
    out: str | None,
) -> None:
    """Measure, print tables and write the page; arguments as the tool's options.

    Raises:
        UserError: what cannot be measured, or no place for the page.
    """
    cuda = torch.cuda.is_available()
    if device == 'cuda' and not cuda:
        raise UserError('--device cuda: torch sees none here')
    device = device or ('cuda' if cuda else 'cpu')
    if 'tf32' in dtype and device == 'cpu':
        raise UserError('--dtype tf32 is a CUDA mode: name fp32, bf16 or fp16 on a CPU')
    if rounds < 1 or batch < 1 or (threads is not None and threads < 1):
        raise UserError(
            f'--rounds, --batch and --threads must be at least 1, got {rounds}, {batch}, {threads}'
        )
    if threads is not None:
        torch.set_num_threads(threads)
    path = None if out is None else Path(out)
    if path is not None:
        check_folder_writable('--out', path.parent)
    if data is not None:
        if models or stages:
            raise UserError('--data measures a config and no models: leave those and --stages out')
        try:
            from .data_path import measure_data
        except ModuleNotFoundError as error:
            raise UserError(f'--data needs the package {error.name}: make setup installs it') from error

        measure_data(data, path, _command())
        return
    if not models:
        raise UserError('name at least one model, as in fastervit:2 (or --data CONFIG)')
    sizes = [parse_size(s, batch) for s in size]
    if stages:
        from .stages import write_stages

        if len(sizes) > 1 or len(dtype) > 1 or train or compile or channels_last:
            raise UserError(
                '--stages takes one --size and one --dtype, and no --train, --compile or --channels-last'
            )
        write_stages(models, sizes[0], dtype[0], device, path, _command())
        return
    where, groups = machine(device), []
    for (count, hw), kind in product(sizes, dtype):
        setting = Setting(hw, count, kind, device, channels_last, compile, train)
        try:
            rows = record(compare(models, setting, rounds), setting, where)
        except torch.OutOfMemoryError as error:
            raise UserError(
                f'{title(asdict(setting))}: the GPU has too little memory for all models at once: fewer, or a smaller batch'
            ) from error
        groups.append(rows)
        print(
            f'\n{title(rows[0]["setting"])} ({where["device"]}, {where["threads"]} threads)\n\n{table(rows)}',
            flush=True,
        )
        if path is not None:  # after each: nothing is lost if a later one fails
            written = write_page(groups, path, _command())
    if path is not None:
        print(f'\nwritten: {", ".join(map(str, written))}')


def parse_size(text: str, batch: int) -> tuple[int, tuple[int, int]]:
    """'224', '800x1280' or '8x224x224' -> (batch, (height, width)).

    Raises:
        UserError: anything else.
    """
    try:
        numbers = [int(n) for n in text.lower().split('x')]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2, 3) or min(numbers) < 1 or min(numbers[-2:]) < 32:
        raise UserError(
            f'--size {text}: expected HEIGHTxWIDTH or BATCHxHEIGHTxWIDTH, at least 32 pixels a side, as in 800x1280'
        )
    if len(numbers) == 1:
        return batch, (numbers[0], numbers[0])
    return (numbers[0] if len(numbers) == 3 else batch), (numbers[-2], numbers[-1])


def _command() -> str:
    return f'python tools/benchmark.py {shlex.join(sys.argv[1:])}'
