"""Read the config of a published folder as data: nothing in it is run, substituted, imported or opened.

mmengine's ``Config.fromfile`` runs a Python config, replaces ``{{$NAME:default}}`` in its text, and its
registries import whatever a dotted ``type`` names. A published folder comes from somebody else, so here

- the file may only assign literals, and the values are taken from the syntax tree;
- there are only the keys that fastervit publish writes;
- every ``type`` is a registered class of a fixed part of the toolkits (:data:`_MODULES`) or one of the named
  transforms, data sets and metrics (:data:`_NAMES`), never a path to something that can be imported;
- every other text is a plain word under a key that is known to take one (:data:`_TEXTS`): classes of the
  toolkits open, unpickle, download or evaluate texts that they get under other keys.
"""

import ast
import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import Registry
from mmengine.registry import root as registries

from ...utils.errors import UserError
from .lookup import import_toolkit

#: Keys of a published config.
KEYS = (
    *('default_scope', 'custom_imports', 'model'),
    *('test_dataloader', 'test_evaluator', 'test_cfg'),
)
_SCOPES = ('mmdet', 'mmseg', 'mmpretrain', 'mmengine', 'mmcv')
#: What ``custom_imports`` may name.
_IMPORTS = ('fastervit_backbone', 'mmdet.models', 'mmseg.models', 'mmpretrain.models')
#: Modules whose registered classes a model may consist of.
_MODULES = re.compile(
    r'(torch\.nn|mmcv\.(cnn|ops)|mmengine\.(model|utils\.dl_utils\.parrots_wrapper)|fastervit_backbone'
    r'|mmdet\.models\.(backbones|necks|dense_heads|roi_heads|seg_heads|mask_heads|detectors|layers|losses|utils'
    r'|data_preprocessors|task_modules\.(assigners|samplers|coders|prior_generators))'
    r'|mmseg\.models\.(backbones|necks|decode_heads|segmentors|losses|utils|data_preprocessor|assigners)'
    r'|mmpretrain\.models\.(backbones|necks|heads|classifiers|losses|utils))(\.|$)'
)
#: Of these, modules whose classes read files or download when they are built.
_READERS = re.compile(
    r'mmdet\.models\.(detectors\.(d2_wrapper|glip|grounding_dino|kd_one_stage|lad)'
    r'|dense_heads\.(atss_vlfusion_head|grounding_dino_head))'
    r'|mmseg\.models\.backbones\.(timm_backbone|vpd)'
    r'|mmpretrain\.models\.(backbones\.timm_backbone|classifiers\.(timm|hugging_face)|heads\.vqa_head'
    r'|utils\.(huggingface|tokenizer|vector_quantizer))'
)
#: Section -> types in it.
_NAMES = dict(
    test_dataloader=frozenset(
        'LoadImageFromFile LoadAnnotations Resize ResizeEdge FixScaleResize FixShapeResize '
        'ResizeShortestEdge ResizeToMultiple Pad Normalize CenterCrop EfficientNetCenterCrop '
        'PackDetInputs PackSegInputs PackInputs '
        'CocoDataset CocoPanopticDataset LVISV05Dataset LVISV1Dataset VOCDataset XMLDataset ConcatDataset '
        'LabelMapDataset ADE20KDataset BaseSegDataset CityscapesDataset PascalVOCDataset '
        'ImageFolderDataset CustomDataset ImageNet ImageNet21k CIFAR10 CIFAR100 '
        'DefaultSampler pseudo_collate default_collate'.split()
    ),
    test_evaluator=frozenset(
        'CocoMetric CocoPanopticMetric LVISMetric VOCMetric IoUMetric Accuracy SingleLabelMetric'.split()
    ),
    test_cfg=frozenset({'TestLoop'}),
)
#: Parent -> types that mmengine's registries lack: functions and operators of mmcv, mixtures of mmpretrain.
_FUNCTIONS = dict(
    nms=('nms', 'soft_nms', 'nms_match'),
    nms_cfg=('nms', 'soft_nms', 'nms_match'),
    roi_layer=('RoIAlign', 'RoIPool'),
    augments=('Mixup', 'CutMix', 'ResizeMix'),
)
#: Section -> keys that take a word. Of all keys of the toolkits' own configs these open no file.
_TEXTS = dict(
    model=frozenset(
        'add_extra_convs aggregation arch attention_type bbox_reg_loss_type block bottleneck_type box_format '
        'ffn_type fusion_types input_transform interpolate_mode interpolation iou_mode log_scale loss_name '
        'method mode model_name norm order out_norm out_type padding_mode paths pooling_type position '
        'psa_type readout_type reduction refine_type stdc_type style upsample_method'.split()
    ),
    test_dataloader=frozenset(
        'ann_file data_root sub_data_root data_prefix img img_path seg seg_map_path folders img_suffix '
        'seg_map_suffix backend imdecode_backend color_type edge interpolation padding_mode meta_keys'.split()
    ),
    test_evaluator=frozenset('ann_file eval_mode iou_metrics metric metric_items average'.split()),
    test_cfg=frozenset(),
)
#: Options of metrics that write files.
_WRITES = ('outfile_prefix', 'output_dir', 'format_only', 'collect_dir', 'dump_matches')
#: Options that only say where initial weights come from; a published folder has the trained ones.
_DROPPED = ('init_cfg', 'pretrained')
_WORD = re.compile(r'[\w+-]{0,64}')
#: Key -> form of its text, where that is no word.
_FORMS = dict(
    ann_file=re.compile(r'([\w-]{1,64}\.(json|txt))?'),
    img_suffix=re.compile(r'[\w-]{0,16}\.\w{1,8}'),
    seg_map_suffix=re.compile(r'[\w-]{0,16}\.\w{1,8}'),
    model_name=re.compile(r'\w{1,64}(\.\w{1,64})?'),
    folders=re.compile(r'(?!\.{1,2}$)[^/\\\0]{1,255}'),  # names of classes
)
#: Largest integer, and of options that make as many layers, anchors or images.
_MAX_INTEGER, _MAX_NUMBER = 10**5, 1e9
_MOST = dict(num_outs=16, scales_per_octave=32, num_stages=16, num_convs=64, batch_size=256)
_MAX_BYTES, _MAX_DEPTH = 4_000_000, 40


def read_data_config(path: str | Path) -> Config:
    """Read the config of a published folder.

    Raises:
        UserError: it cannot be read, or is more than data; the message names the key.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UserError(f'{path} has more than {_MAX_BYTES} bytes: fastervit publish writes less')
        text = path.read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'cannot read {path}: {error}') from error
    return parse_data_config(text, path)


def parse_data_config(text: str, path: str | Path) -> Config:
    """Build a config from its text, as :func:`read_data_config` does; ``path`` is for messages.

    Raises:
        UserError: it is more than data.
    """
    checker = _Checker(path)
    tree = checker.check(_literals(text, path))
    for module in (tree.get('custom_imports') or {}).get('imports', ()):
        importlib.import_module(module)  # of _IMPORTS
    return Config(tree, cfg_text=text, filename=str(path))


def _literals(text: str, path: str | Path) -> dict[str, Any]:
    """Return the values that a text assigns to names."""
    try:
        values = {}
        for statement in ast.parse(text).body:
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    values[name] = _literal(value)
                case _:
                    raise ValueError(f'line {statement.lineno} is no assignment of a value')
        return values
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error) or type(error).__name__
        raise _refused(path, f'{reason}, which is code or broken') from error


def _literal(node: ast.expr, depth: int = 0) -> Any:
    """Evaluate constants, lists, tuples, dicts and calls of ``dict`` with keywords; ValueError for others."""
    if depth > _MAX_DEPTH:
        raise ValueError(f'line {node.lineno} is nested more than {_MAX_DEPTH} times')
    match node:
        case ast.Constant(value=value) if value is None or type(value) in (bool, int, float, str):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=value)) if type(value) in (int, float):
            return -value
        case ast.Tuple(elts=items):
            return tuple(_literal(item, depth + 1) for item in items)
        case ast.List(elts=items):
            return [_literal(item, depth + 1) for item in items]
        case ast.Dict(keys=keys, values=values) if all(isinstance(key, ast.Constant) for key in keys):
            return {k.value: _literal(v, depth + 1) for k, v in zip(keys, values, strict=True)}  # type: ignore[union-attr]
        case ast.Call(func=ast.Name(id='dict'), args=[], keywords=keywords) if all(k.arg for k in keywords):
            return {str(k.arg): _literal(k.value, depth + 1) for k in keywords}
    raise ValueError(f'line {node.lineno} has an expression')


def _refused(path: str | Path, reason: str) -> UserError:
    return UserError(
        f'{path}: {reason}: a published config holds data of registered classes only (docs/security.md; '
        '--trust-pickle runs it: only for people whom you trust)'
    )


class _Checker:
    """Checks a tree of literals; every message names the key.

    Args:
        path: of the config, for messages.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path

    def check(self, tree: Mapping[str, Any]) -> dict[str, Any]:
        """Return the tree without options of initial weights; raise UserError if it is more than data."""
        for key in tree:
            if key not in KEYS:
                raise self._error(key, f'no key of a published config ({", ".join(KEYS)})')
        self._check_form(tree)
        scope = tree.get('default_scope', 'mmdet')
        if scope not in _SCOPES[:3]:
            raise self._error('default_scope', f'{scope!r}: expected one of {", ".join(_SCOPES[:3])}')
        imports = tree.get('custom_imports')
        if imports is not None:
            names = imports.get('imports') if isinstance(imports, dict) else None
            if not isinstance(names, list) or set(imports) - {'imports', 'allow_failed_imports'}:
                raise self._error('custom_imports', 'expected dict(imports=[...])')
            for name in names:
                if name not in _IMPORTS:
                    raise self._error('custom_imports', f'{name!r} is not one of {", ".join(_IMPORTS)}')
        for name in (scope, *((imports or {}).get('imports') or ())):
            import_toolkit(str(name).partition('.')[0])
        kept = {k: tree[k] for k in ('default_scope', 'custom_imports') if k in tree}
        sections = {k: v for k, v in tree.items() if k not in kept}
        checked = kept | {k: self._node(v, k, k, scope) for k, v in sections.items()}
        checked['test_dataloader'].update(num_workers=0, persistent_workers=False)
        return checked

    def _check_form(self, tree: Mapping[str, Any]) -> None:
        """Raise UserError unless the parts that are looked up by name are there."""
        for key in ('model', 'model.backbone', 'test_dataloader', 'test_dataloader.dataset'):
            node: Any = tree
            for name in key.split('.'):
                node = node.get(name) if isinstance(node, Mapping) else None
            if not isinstance(node, Mapping) or ('type' not in node and key != 'test_dataloader'):
                raise self._error(key, 'expected a dict with a type')

    def _node(self, value: Any, key: str, section: str, scope: str) -> Any:
        """Check a value; ``key`` is its dotted path."""
        name = key.rpartition('.')[2]
        if isinstance(value, dict):
            return self._dict(value, key, section, scope)
        if name == 'pipeline' and not (
            isinstance(value, list | tuple) and all(isinstance(v, dict) and 'type' in v for v in value)
        ):
            raise self._error(key, 'expected a list of dicts with a type')
        if isinstance(value, list | tuple):
            return type(value)(self._node(v, f'{key}.{i}', section, scope) for i, v in enumerate(value))
        if isinstance(value, str):
            if name == 'type':
                return self._type(value, key, section, scope)
            self._text(value, key, section)
        elif isinstance(value, int | float):
            most = _MOST.get(name, _MAX_INTEGER) if isinstance(value, int) else _MAX_NUMBER
            if not abs(value) <= most:
                raise self._error(key, f'{str(value)[:30]} is more than {most:g}')
        return value

    def _text(self, value: str, key: str, section: str) -> None:
        name = _last_name(key)
        if name not in _TEXTS[section]:
            raise self._error(key, f'{value[:60]!r}: no text is expected here')
        if not _FORMS.get(name, _WORD).fullmatch(value):
            raise self._error(key, f'{value[:60]!r} is no plain word')

    def _dict(self, value: dict, key: str, section: str, scope: str) -> dict:
        scope = value.get('_scope_', scope)
        if scope not in _SCOPES:
            raise self._error(f'{key}._scope_', f'{str(scope)[:60]!r}: expected one of {", ".join(_SCOPES)}')
        result = {}
        for name, item in value.items():
            place = f'{key}.{name}'
            if not isinstance(name, str) or not name.isidentifier() or name.startswith('__'):
                raise self._error(key, f'has the key {str(name)[:60]!r}')
            if name in _DROPPED:
                continue
            if name == '_scope_':
                result[name] = item
                continue
            if name == 'type' and not isinstance(item, str):
                raise self._error(place, f'{str(item)[:60]}: expected the name of a class')
            if section == 'test_evaluator' and name in _WRITES and item:
                raise self._error(place, f'{str(item)[:60]!r}: results of a foreign config are not written')
            if name in ('backend_args', 'file_client_args', 'download') and item:
                raise self._error(place, 'only files of this machine are read')
            if name == 'metainfo' and section == 'test_dataloader':
                result[name] = self._metainfo(item, place)
            else:
                result[name] = self._node(item, place, section, scope)
        if str(value.get('type')).rpartition('.')[2] in ('CIFAR10', 'CIFAR100'):
            result['download'] = False
        return result

    def _metainfo(self, value: Any, key: str) -> Any:
        """Check names of classes and colors: any text, but no dicts in them."""
        # mmengine opens a text as a file
        if not isinstance(value, dict) or not all(isinstance(item, list | tuple) for item in value.values()):
            raise self._error(key, 'expected lists of names and colors')

        def is_plain(item: Any) -> bool:
            return all(map(is_plain, item)) if isinstance(item, list | tuple) else not isinstance(item, dict)

        if not all(map(is_plain, value.values())):
            raise self._error(key, 'expected names and colors')
        return value

    def _type(self, name: str, key: str, section: str, scope: str) -> str:
        """Check that a type is a class that may be built here."""
        parent = _last_name(key.rpartition('.')[0])
        if section == 'model' and parent in _FUNCTIONS:
            if name not in _FUNCTIONS[parent]:
                raise self._error(key, f'{name[:60]!r}: expected one of {", ".join(_FUNCTIONS[parent])}')
            return name
        prefix, _, bare = name.rpartition('.')
        if prefix and prefix not in _SCOPES:
            raise self._error(key, f'{name[:60]!r} is no registered class')
        found = _registered(section, prefix or scope, bare)
        if not found:
            raise self._error(key, f'{name[:60]!r} is no registered class')
        names = _NAMES.get(section)
        allowed: Callable[[object], bool] = _is_part if names is None else lambda _: bare in names
        if not all(map(allowed, found)):
            raise self._error(key, f'{name[:60]} is not one of the classes that a published config may build')
        return name

    def _error(self, key: str, reason: str) -> UserError:
        return _refused(self.path, f'{key}: {reason}')


def _last_name(key: str) -> str:
    """Return the last part of a dotted path that is no index."""
    return next((part for part in reversed(key.split('.')) if not part.isdecimal()), '')


def _is_part(target: object) -> bool:
    """Return whether a registered class may be a part of a model."""
    if inspect.isfunction(target) and hasattr(target, 'load'):  # one of ours, registered lazily
        return True
    module = str(getattr(target, '__module__', ''))
    return bool(_MODULES.match(module)) and not _READERS.match(module)


@cache
def _registries(section: str) -> tuple[Registry, ...]:
    names = dict(
        model=('MODELS', 'TASK_UTILS'),
        test_dataloader=('DATASETS', 'TRANSFORMS', 'DATA_SAMPLERS', 'FUNCTIONS'),
        test_evaluator=('METRICS', 'EVALUATOR'),
        test_cfg=('LOOPS',),
    )[section]
    return tuple(getattr(registries, name) for name in names)


def _registered(section: str, scope: str, name: str) -> list[object]:
    """Return what the registries of a section have under a name, in a toolkit or in mmengine's root."""
    import_toolkit(scope)
    found = []
    for registry in _registries(section):
        for candidate in (registry.children.get(scope), registry):
            if candidate is None:
                continue
            candidate.import_from_location()
            if name in candidate.module_dict:
                found.append(candidate.module_dict[name])
                break
    return found
