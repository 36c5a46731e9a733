"""Fit heads, palettes and label loading to the classes of the data sets."""

from collections.abc import Iterator, Mapping

from mmengine.config import Config, ConfigDict

from ...recipes import part_of, parts_with_classes
from ...utils.errors import UserError
from ...visualization.palette import distinct_colors
from .lookup import arguments_of, find_class
from .reading import as_list, classes_of, is_panoptic, is_semantic, leaf_datasets


def fit_classes(config: Config, split: str) -> list[str]:
    """Give the heads as many classes as the data set has, and the data sets a palette of that length.

    Args:
        config: changed in place: ``num_classes`` of ``roi_head.{bbox,mask}_head``, ``bbox_head``,
            ``decode_head``, ``auxiliary_head`` and ``head``.
        split: 'train' or 'test', whose data set defines the classes.

    Returns:
        a message if the heads were changed.

    Raises:
        UserError: training and validation data have different classes.
    """
    classes = next((classes_of(dataset) for dataset in _datasets(config, split)), None)
    if not classes:
        return []
    for name in ('train', 'val') if split == 'train' else (split,):
        for dataset in _datasets(config, name):
            if classes_of(dataset) != classes:
                raise UserError(
                    f'the {split} data has the classes {classes}, the {name} data {classes_of(dataset)}: '
                    'give both the same metainfo'
                )
            if isinstance((dataset.get('metainfo') or {}).get('classes'), str):
                # mmengine would read the file in its own way
                dataset.metainfo = dict(dataset.metainfo, classes=tuple(classes))
            _fit_palette(dataset, len(classes))
        _fit_top_k(config, name, len(classes))
    stuff = next((stuff_of(dataset) for dataset in _datasets(config, split)), 0)
    return fit_heads(config, len(classes), stuff)


def stuff_of(dataset: Mapping) -> int:
    """Return how many classes of a data set, the last ones, are stuff.

    Raises:
        UserError: a panoptic data set that does not say which.
    """
    metainfo = dataset.get('metainfo') or {}
    if 'classes' not in metainfo:
        metainfo = getattr(find_class(dataset['type']), 'METAINFO', {})
    stuff, things = metainfo.get('stuff_classes'), metainfo.get('thing_classes')
    if stuff is None and things is None and is_panoptic(dataset):
        raise UserError(
            f'{dataset["type"]}: metainfo names classes, but not which are things: give thing_classes and '
            'stuff_classes, too'
        )
    if stuff is None and things is not None:
        return len(metainfo['classes']) - len(things)
    return len(stuff or ())


def fit_heads(config: Config, num_classes: int, num_stuff: int | None = None) -> list[str]:
    """Set ``num_classes`` of every head, in place; return a message if heads were changed.

    Args:
        config: changed.
        num_classes: of the data set.
        num_stuff: how many of them are stuff; None: as many as the config says.

    Raises:
        UserError: a loss has class weights for a different number of classes.
    """
    heads = dict(_heads(config.model))
    _check_class_weights(heads, num_classes)
    preprocessor = config.model.get('data_preprocessor') or {}
    if preprocessor.get('num_classes'):  # a classifier's, for Mixup and CutMix
        preprocessor.num_classes = num_classes
    changed = [head for head in heads.values() if head.get('num_classes', num_classes) != num_classes]
    queries = _fit_query_heads(config.model, num_classes, num_stuff)
    if not changed:
        return queries
    before = ', '.join(map(str, sorted({head.num_classes for head in changed})))
    for head in changed:
        head.num_classes = num_classes
    return [f'num_classes {before} -> {num_classes} in {len(changed)} heads, to match the data set', *queries]


def _fit_query_heads(model: ConfigDict, num_classes: int, num_stuff: int | None) -> list[str]:
    """Fit Mask2Former: the numbers of things and stuff, and a weight for each class and for 'no object'."""
    messages = []
    heads = [model[key] for key in ('panoptic_head', 'panoptic_fusion_head') if model.get(key)]
    stuff = heads[0].get('num_stuff_classes', 0) if heads and num_stuff is None else num_stuff or 0
    wanted = (num_classes - stuff, stuff)
    if heads and wanted[0] < 0:
        raise UserError(
            f'model.panoptic_head has {stuff} classes of stuff, the data {num_classes} classes in all: set '
            'num_things_classes and num_stuff_classes to those of the data'
        )
    before = {(head.num_things_classes, head.get('num_stuff_classes', 0)) for head in heads} - {wanted}
    if before:
        for head in heads:
            head.num_things_classes, head.num_stuff_classes = wanted
        counts = [f'{things} things and {others} stuff' for things, others in (before.pop(), wanted)]
        messages = [f'classes of the head: {counts[0]} -> {counts[1]}, to match the data set']
    for head in (model.get('panoptic_head'), model.get('decode_head')):
        loss = (head.get('loss_cls') or {}) if isinstance(head, Mapping) else {}
        weights = loss.get('class_weight')
        if weights is not None and len(weights) != num_classes + 1 and len(set(weights[:-1])) == 1:
            loss.class_weight = [weights[0]] * num_classes + [weights[-1]]
    return messages


def fit_label_loading(config: Config) -> list[str]:
    """Let every ``LoadAnnotations`` treat label 0 like its data set; mmseg fails with a traceback otherwise.

    Args:
        config: changed in place.

    Returns:
        one message per change.
    """
    messages = []
    for split in ('train', 'val', 'test'):
        for dataset in filter(is_semantic, _datasets(config, split)):
            default = arguments_of(find_class(dataset['type'])).get('reduce_zero_label', False)
            expected = dataset.get('reduce_zero_label', default)
            for transform in dataset.get('pipeline') or ():
                if transform.get('reduce_zero_label') not in (None, expected):
                    transform.reduce_zero_label = expected
                    messages.append(
                        f'{split} pipeline: reduce_zero_label -> {expected}, to match the data set'
                    )
    return messages


def _datasets(config: Config, split: str) -> Iterator[ConfigDict]:
    loader = config.get(f'{split}_dataloader')
    return leaf_datasets(loader.dataset) if loader else iter(())


def _heads(model: Mapping) -> Iterator[tuple[str, ConfigDict]]:
    """Yield (path in the config, head) of every head with classes."""
    for path in parts_with_classes():
        yield from _with_paths(f'model.{path}', part_of(model, path))


def _with_paths(path: str, node: object) -> list[tuple[str, ConfigDict]]:
    """Return a config's dict, or the dicts of its list, each with its path."""
    if isinstance(node, list | tuple):
        return [(f'{path}.{i}', item) for i, item in enumerate(node)]
    return [] if node is None else [(path, node)]


def _fit_top_k(config: Config, split: str, num_classes: int) -> None:
    """Leave out the accuracies of more guesses than there are classes, for which mmpretrain stops."""
    for evaluator in as_list(config.get(f'{split}_evaluator')):
        if evaluator.get('type') == 'Accuracy' and evaluator.get('topk'):
            evaluator.topk = tuple(k for k in as_list(evaluator.topk) if k < num_classes) or (1,)


def _check_class_weights(heads: Mapping[str, Mapping], num_classes: int) -> None:
    for head_path, head in heads.items():
        for path, loss in _with_paths(f'{head_path}.loss_decode', head.get('loss_decode')):
            weights = loss.get('class_weight')
            if isinstance(weights, list | tuple) and len(weights) != num_classes:
                raise UserError(
                    f'{path}.class_weight has {len(weights)} numbers, the data set {num_classes} classes: '
                    f'give one per class, or none: --cfg-options {path}.class_weight=None'
                )


def _fit_palette(dataset: ConfigDict, num_classes: int) -> None:
    """Replace a palette of the wrong length, which new metainfo inherits from a base config.

    mmdet cannot draw with one that is too short; mmseg accepts only one of the exact length.
    """
    metainfo = dataset.get('metainfo') or {}
    own_palette = metainfo.get('palette')
    palette = own_palette or getattr(find_class(dataset['type']), 'METAINFO', {}).get('palette')
    if is_semantic(dataset):
        if palette is None or (own_palette and len(palette) != num_classes):
            # mmseg's default colors are random, some of them similar
            dataset.metainfo = dict(metainfo, palette=distinct_colors(num_classes))
    elif palette is not None and not isinstance(palette, str) and len(palette) < num_classes:
        dataset.metainfo = dict(metainfo, palette='random')
