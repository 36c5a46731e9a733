"""Options of ``fastervit train``."""

from collections.abc import Mapping
from dataclasses import dataclass

from .field import Place, cfg_options, option


@dataclass(frozen=True)
class TrainOptions:
    """What to train and how; see ``fastervit train --help``."""

    config: Place = option(help='config file', positional=True)
    work_dir: Place | None = option(
        None, help='folder of checkpoints and logs (default: work_dirs/CONFIG)', metavar='DIR'
    )
    amp: bool = option(
        False, help='mixed precision: bfloat16 on GPUs and CPUs that compute in it, float16 on other GPUs'
    )
    compile: bool = option(False, help='torch.compile the backbone (needs a C++ compiler)')
    resume: bool | Place = option(
        False,
        help='resume from the last checkpoint of the work dir, or from CHECKPOINT',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
    )
    seed: int | None = option(None, help='random seed')
    auto_scale_lr: bool = option(
        True,
        help="scale the config's learning rate to the batch size (on by default)",
        flag='--auto-scale-lr',
        both=True,
    )
    max_unreadable: int = option(
        10,
        help='replace unreadable images with others; stop when more than N are unreadable (default: 10)',
        metavar='N',
    )
    max_non_finite: int = option(
        5,
        help='skip steps with a non-finite loss or gradient, and stop after N consecutive ones (default: 5)',
        metavar='N',
    )
    options: Mapping[str, object] | None = cfg_options()
    launcher: str = option(
        'none',
        help='launcher that started the processes',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
    )
