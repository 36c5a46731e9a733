"""What a weight file declares of its backbone, as tensors do not tell everything: windows, carriers, ..."""

import ast
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from ..models.arch import ARCHS, NUM_STAGES, ArchSpec, resolve_arch
from ..utils.errors import CheckpointError
from ..utils.literals import literal

#: Keys of the metadata that :func:`declare` writes.
SPEC_KEY, CHANNELS_KEY, NAME_KEY = 'arch_spec', 'in_chans', 'arch'
#: Of a variant.
FIELDS = tuple(field.name for field in fields(ArchSpec))
#: Those that :class:`FasterViT` takes beside the variant, and that weights of any of them fit.
SIZES = ('window_sizes', 'carrier_size', 'carrier_window')
#: Fields of former versions, which only networks of fastervit_paper have -> value that they have elsewhere.
_FORMER = dict(
    attention='hat', carrier_kernel=3, carrier_conv='depthwise', carrier_gate=False, window_overlap=0
)
#: Fields without an effect where no stage has carriers.
_OF_CARRIERS = ('carrier_size', 'propagation', 'hat_every', 'carrier_window')


@dataclass(frozen=True)
class Declared:
    """A backbone as its file declares it.

    Attributes:
        spec: the variant.
        in_chans: channels of the images; None if the file does not say.
    """

    spec: ArchSpec
    in_chans: int | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Name in ARCHS of exactly this variant, else those of variants that differ only in sizes."""
        exact = [name for name, spec in ARCHS.items() if spec == self.spec]
        return tuple(exact or (name for name, spec in ARCHS.items() if self._with_sizes_of(spec) == spec))

    def _with_sizes_of(self, spec: ArchSpec) -> ArchSpec:
        return replace(self.spec, **{name: getattr(spec, name) for name in SIZES})


def declare(spec: ArchSpec, in_chans: int) -> dict[str, str]:
    """Return the metadata that declares a backbone."""
    declaration = {SPEC_KEY: json.dumps(asdict(spec)), CHANNELS_KEY: str(in_chans)}
    exact = [name for name, known in ARCHS.items() if known == spec]
    return declaration | ({NAME_KEY: exact[0]} if exact else {})


def read_declared(meta: object, source: str = 'the checkpoint') -> Declared | None:
    """Read what the metadata of a checkpoint declares about its backbone; None if it declares nothing.

    Files of this package hold the variant, older ones its name. mmengine keeps the config as text, which is
    parsed and never run.

    Args:
        meta: ``meta`` of the checkpoint.
        source: name of the file in errors.

    Raises:
        CheckpointError: a declaration that is no variant.
    """
    if not isinstance(meta, Mapping):
        return None
    if meta.get(SPEC_KEY):
        try:
            written = meta[SPEC_KEY]
            fields_read = json.loads(written) if isinstance(written, str) else written
            spec = resolve_arch(_without_former(fields_read))
            return Declared(spec, int(meta[CHANNELS_KEY]) if CHANNELS_KEY in meta else None)
        except (ValueError, TypeError, RecursionError) as error:
            raise CheckpointError(
                f'{source} declares no variant that this version knows ({error}): convert it again, or '
                'install the version that wrote it'
            ) from error
    if meta.get(NAME_KEY):
        name = str(meta[NAME_KEY])
        return Declared(ARCHS[name]) if name in ARCHS else None
    return _of_config(str(meta.get('cfg') or ''))


def _of_config(text: str) -> Declared | None:
    """Read ``model.backbone`` of a config, if it is a FasterViT of literals."""
    try:
        statements = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    models = [s.value for s in statements if isinstance(s, ast.Assign) and _names(s.targets) == ['model']]
    keywords = models[-1].keywords if models and isinstance(models[-1], ast.Call) else []
    try:
        backbone = literal(next(k.value for k in keywords if k.arg == 'backbone'))
        if str(backbone['type']).rpartition('.')[2] != 'FasterViT':
            return None
        replaced = {k: backbone.get(k) for k in SIZES}
        spec = resolve_arch(_without_former(backbone['arch']), **replaced)
        return Declared(spec, int(backbone.get('in_chans', 3)))
    except (StopIteration, ValueError, TypeError, LookupError):
        return None


def _without_former(arch: object) -> Any:
    """Leave out fields of former versions that have the value of all variants; others stay, as errors."""
    if not isinstance(arch, Mapping):
        return arch
    return {k: v for k, v in arch.items() if k not in _FORMER or v != _FORMER[k]}


def _names(targets: list[ast.expr]) -> list[str]:
    return [getattr(target, 'id', '') for target in targets]


def silent_differences(
    file: ArchSpec, model: ArchSpec, stages: int = NUM_STAGES, known: Collection[str] = FIELDS
) -> str:
    """Describe in which fields two variants compute differently from the same tensors; '' for none.

    Initial values are no difference.

    Args:
        file: the variant that trained the weights.
        model: the one that gets them.
        stages: how many of the model's stages are built.
        known: fields of the file that are known.
    """
    attends = [i for i in range(stages) if not model.conv[i]]
    differences = []
    for name in (name for name in FIELDS if name in known):
        a, b = getattr(file, name), getattr(model, name)
        if name in _OF_CARRIERS and not any(model.hat[i] for i in attends):
            continue
        if name == 'layer_scale' or a == b:
            continue
        if name == 'window_sizes':
            pairs = [(f'window of stage {i + 1}', a[i], b[i]) for i in attends]
        elif name == 'num_heads':
            pairs = [(f'heads of stage {i + 1}', a[i], b[i]) for i in attends]
        else:
            pairs = [('carriers per side' if name == 'carrier_size' else name, a, b)]
        differences += [f'{n}: {x} in the file, {y} in the model' for n, x, y in pairs if x != y]
    return ', '.join(differences)
