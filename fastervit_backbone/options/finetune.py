"""Options of ``fastervit finetune``."""

from collections.abc import Sequence
from dataclasses import dataclass

from .field import Place, Size, option


@dataclass(frozen=True)
class FinetuneOptions:
    """What to train on, what to train, for how long, and where; see ``fastervit finetune --help``."""

    data: Place | None = option(
        None,
        help='folder, COCO json or data.yaml; it is recognized',
        positional=True,
        metavar='DATA',
        group='data',
    )
    val_fraction: float = option(
        0.2,
        help='DATA without a validation split: fraction of its images that becomes one (default: 0.2)',
        metavar='F',
        group='data',
    )
    train: Place | None = option(
        None, help='COCO json, folder of label maps, or folder of class folders', group='data'
    )
    val: Place | None = option(None, help='likewise', group='data')
    images: Place | Sequence[Place] = option(
        (),
        help='image folder: one for both splits, or one for train and one for val; none for class folders',
        nargs='+',
        metavar='DIR',
        group='data',
    )
    classes: Sequence[str] | None = option(
        None, help='label maps: names of the values 0, 1, ...', metavar='NAME', group='data'
    )
    ignore: int | None = option(
        None, help='label maps: a further ignored value, besides 255', metavar='VALUE', group='data'
    )
    channels: str | None = option(
        None,
        help='what is read of images: color (RGB, in 8 bits), or all channels, in the numbers of the files '
        '(default: all where they are no colors: 2, 4 and more channels, floats, npy)',
        metavar='color|all',
        group='data',
    )
    rgb: Sequence[int] | None = option(
        None,
        help='channels that pictures show as red, green and blue, counted from 0 (default: the first three)',
        nargs=3,
        metavar='CHANNEL',
        group='data',
    )
    masks: bool = option(True, help='learn boxes only, although all or some objects have masks', group='data')
    model: str | None = option(
        None,
        help='head: cascade for objects, upernet for label maps, classifier for class folders (the '
        'defaults), or another; an unknown name lists all',
        group='model',
    )
    arch: str | None = option(
        None, help='FasterViT 0 to 4, or nano, which a CPU trains in minutes (default: 0)', group='model'
    )
    start: Place | None = option(
        None,
        help='initial weights: published (of nano: those of this package), nothing (from scratch), or a '
        'checkpoint or work dir, whose classes may differ (default: published)',
        metavar='WEIGHTS',
        group='model',
    )
    tune: str | None = option(
        None,
        help='what learns: all; heads, with a frozen backbone, for less time and memory; or adapters, '
        'low-rank matrices (LoRA) in the frozen backbone, and heads (default: all but the first layers '
        'where images are few)',
        metavar='PART',
        group='model',
    )
    preset: str | None = option(
        None, help='length: quick, standard or long (default: standard)', group='schedule'
    )
    size: Size | None = option(
        None,
        help='size of images, or of crops of label maps (default: from the data)',
        metavar='HxW',
        group='schedule',
    )
    batch: int | None = option(
        None, help='images per process (default: what fits into memory)', group='schedule'
    )
    accumulate: int = option(1, help='batches per optimizer step (default: 1)', metavar='N', group='schedule')
    augment: str | None = option(
        None,
        help='augmentation: none, light, or strong for few images and long training (default: light); '
        'WORK_DIR/augmented.jpg shows it',
        group='schedule',
    )
    balance: bool = option(
        False,
        help='show images of rare classes more often (the factors are printed)',
        group='schedule',
    )
    flip: bool = option(True, help='never mirror images: for text, signs, left and right', group='schedule')
    epochs: int | None = option(None, help="number of epochs (default: the preset's)", group='schedule')
    lr: float | None = option(
        None,
        help="learning rate for the images of a step (default: the paper's, scaled)",
        group='schedule',
    )
    seed: int | None = option(None, help='random seed (default: 0)', group='schedule')
    amp: bool = option(True, help='train in float32, also where bfloat16 is faster', group='schedule')
    work_dir: Place | None = option(
        None,
        help='folder of config, checkpoints and logs (default: work_dirs/finetune/NAME_MODEL_ARCH)',
        metavar='DIR',
        group='run',
    )
    log: Sequence[str] = option(
        (), help='also log to: tensorboard, wandb (offline), mlflow', metavar='NAME', group='run'
    )
    resume: bool = option(False, help='resume the run in the work dir', group='run')
    config_only: bool = option(False, help='only write the config, to edit it', group='run')
    dry_run: bool = option(False, help='only print what would be done', group='run')
