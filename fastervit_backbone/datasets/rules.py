"""The table of data rules.

The checker lists every violation, training stops at the first error, ``--fix`` repairs by the same rules.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

Severity = Literal['error', 'warning', 'note']


@dataclass(frozen=True)
class Rule:
    """One thing that can be wrong with a data set.

    Args:
        id: short and stable, for programs: 'box-outside'.
        severity: 'error' (training or evaluation would fail or be wrong), 'warning' (probably unintended) or
            'note'.
        meaning: what it is, as a plural, and its consequence; the end of a message that starts with a count.
        repair: what ``--fix`` does: 'remove' the entry, or the name of another action of
            :data:`~fastervit_backbone.datasets.validation.repair.ACTIONS`; '' where nothing can be done.
        reads: what must be read to find it: 'annotations', 'images' (the files are opened) or 'splits'
            (compared with each other).
        tolerated: an error that training handles itself, so that it does not stop.
    """

    id: str
    severity: Severity
    meaning: str
    repair: str = ''
    reads: Literal['annotations', 'images', 'splits'] = 'annotations'
    tolerated: bool = False


class Violation(NamedTuple):
    """One place where a rule is broken: ``example`` names the place and the value."""

    rule: Rule
    example: str = ''


def _table(*rules: Rule) -> dict[str, Rule]:
    table = {rule.id: rule for rule in rules}
    assert len(table) == len(rules), 'rule ids are unique'
    return table


#: Of images, whatever the annotations are.
IMAGE_RULES = _table(
    Rule('no-images', 'error', 'no images'),
    Rule('image-missing', 'error', 'images that do not exist', 'remove'),
    Rule('image-unreadable', 'error', 'files that cannot be read as images', 'remove', reads='images'),
    Rule(
        'image-channels',
        'warning',
        'images of other channels or numbers than colors, read whole by fastervit finetune and configs that '
        'say channels=N in LoadImageFromFile; others leave some out or stop',
        reads='images',
    ),
    Rule(
        'image-channels-differ',
        'error',
        'images of different numbers of channels or kinds of numbers: they cannot be read alike',
        reads='images',
    ),
    Rule(
        'image-unsupported',
        'error',
        'images that are not read: their pixels or pages are of another kind',
        reads='images',
    ),
    Rule(
        'image-dark',
        'warning',
        'images of 16 bits that use fewer, almost black for configs that do not say bits=... in '
        'LoadImageFromFile; fastervit finetune writes it',
        reads='images',
    ),
    Rule('image-content-twice', 'warning', 'files with the same content', reads='images'),
    Rule(
        'splits-overlap',
        'error',
        'images in two splits: scores on them are meaningless',
        reads='splits',
        tolerated=True,
    ),
)

COCO_RULES = IMAGE_RULES | _table(
    Rule('category-bad', 'error', 'categories without an integer id and a printable name', 'remove'),
    Rule('category-id-twice', 'error', 'duplicate category ids: give each class its own id'),
    Rule(
        'category-id-huge', 'error', 'category ids of 2**53 and more, which evaluation mixes up', 'renumber'
    ),
    Rule('category-name-twice', 'error', 'duplicate class names: make them one category', 'remove'),
    Rule('category-name-alike', 'warning', 'class names that differ only in case or spaces'),
    Rule('no-categories', 'error', 'no categories: nothing can be learned'),
    Rule(
        'category-id-zero',
        'note',
        'categories with id 0: this is fine, but some tools take it for the background',
    ),
    Rule('category-id-gaps', 'note', 'category ids that are not consecutive: this is fine'),
    Rule('class-unused', 'warning', 'classes without an object'),
    Rule('classes-differ', 'error', 'classes that one split has and another has not', reads='splits'),
    Rule('ids-differ', 'warning', 'classes with different ids in two splits', reads='splits'),
    Rule('image-bad', 'error', 'images without an integer id and a file_name', 'remove'),
    Rule('image-id-twice', 'error', 'image ids that occur twice: their annotations would be mixed up'),
    Rule(
        'image-id-huge',
        'error',
        'image ids of 2**53 and more, which evaluation mixes up: number the images from 1',
        'renumber',
    ),
    Rule('image-name-twice', 'error', 'files that are listed twice', 'remove'),
    Rule('image-size-bad', 'error', 'images without width and height in whole pixels', 'size of the file'),
    Rule(
        'image-size-differs',
        'error',
        'images of another size than the json states',
        'size of the file',
        reads='images',
    ),
    Rule('image-empty', 'note', 'images without objects: they are kept and teach the background'),
    Rule('no-annotations', 'error', 'no annotations: nothing to learn or to score'),
    Rule('annotation-bad', 'error', 'annotations that are not JSON objects', 'remove'),
    Rule('annotation-id-bad', 'error', 'annotations without an integer id', 'renumber'),
    Rule(
        'annotation-id-twice',
        'error',
        'annotation ids that occur twice: evaluation mixes them up',
        'renumber',
    ),
    Rule(
        'annotation-id-huge',
        'error',
        'annotation ids of 2**53 and more, which evaluation mixes up',
        'renumber',
    ),
    # training's own evaluation renumbers it: datasets.coco.complete_for_evaluation
    Rule(
        'annotation-id-zero',
        'error',
        'annotations with id 0, which pycocotools takes for "no object": AP is too low',
        'renumber',
        tolerated=True,
    ),
    Rule('annotation-image-unknown', 'error', 'annotations whose image_id is not in images', 'remove'),
    Rule(
        'annotation-category-unknown', 'error', 'annotations whose category_id is not in categories', 'remove'
    ),
    Rule('box-bad', 'error', 'boxes that are not four finite numbers x, y, width, height', 'remove'),
    Rule(
        'box-negative',
        'error',
        'boxes of negative size: bbox is x, y, width, height, not two corners',
        'remove',
    ),
    # no error: mmdet skips them, and COCO's own train2017 has two
    Rule('box-flat', 'warning', 'boxes without width or height: training skips them', 'remove'),
    Rule('box-outside', 'error', 'boxes entirely outside their images', 'remove'),
    Rule(
        'box-reaches-out', 'warning', 'boxes that reach out of their images: training clips them', 'clip box'
    ),
    Rule('box-tiny', 'warning', 'boxes of less than a pixel: training skips them'),
    Rule('area-missing', 'error', 'annotations without area, which mmdet reads', 'fill area'),
    Rule('area-bad', 'error', 'areas that are not numbers', 'fill area'),
    Rule(
        'iscrowd-missing',
        'warning',
        'annotations whose iscrowd is not 0 or 1: 0 is assumed here, pycocotools fails',
        'fill iscrowd',
    ),
    Rule('crowds', 'note', 'crowds: evaluation ignores detections in them, training leaves them out'),
    Rule(
        'all-crowds',
        'error',
        'data sets whose every object is a crowd, which training leaves out: set iscrowd to 0 (CVAT writes '
        'brush masks as crowds)',
    ),
    Rule('mask-none', 'note', 'annotations without a segmentation: enough for boxes, not for masks'),
    Rule(
        'masks-partly',
        'warning',
        'objects without a segmentation beside others that have one: no masks can be learned of them',
    ),
    Rule(
        'mask-bad',
        'error',
        'segmentations that are neither polygons nor run-length codes of as many pixels as their images',
        'drop mask',
    ),
    Rule('mask-size', 'error', 'run-length codes of another size than their images', 'drop mask'),
    Rule('mask-empty', 'warning', 'run-length codes without a single pixel'),
    Rule(
        'mask-reaches-out',
        'warning',
        'segmentations that reach out of their images: in other pixels, or not polygons at all',
    ),
    Rule(
        'mask-off-box',
        'warning',
        'segmentations elsewhere than their boxes: masks and boxes would be learned from different objects',
    ),
    Rule('polygon-bad', 'error', 'polygons that are not pairs of finite numbers', 'drop polygons'),
    Rule(
        'polygon-short',
        'error',
        'polygons of fewer than three points, which crash mask evaluation',
        'drop polygons',
    ),
)

LABEL_MAP_RULES = IMAGE_RULES | _table(
    Rule('classes-too-many', 'error', 'more classes than mmseg can read: label maps have 8 bits'),
    Rule('class-ignored', 'error', 'classes whose value is ignored: they would never be learned'),
    Rule(
        'image-turned',
        'warning',
        'images that EXIF turns or mirrors: training turns them, and reads their label maps as they are '
        'stored: look at the sheet, or write such images upright',
    ),
    Rule('label-missing', 'error', 'images without a label map of the same name'),
    Rule('label-alone', 'warning', 'label maps without an image of the same name'),
    Rule('label-unreadable', 'error', 'label maps that cannot be read as images'),
    Rule('label-picture', 'error', 'label maps that are color pictures: write one channel of class numbers'),
    Rule(
        'label-size',
        'error',
        'label maps of another size than their images: write them again without interpolation',
    ),
    Rule('value-unknown', 'error', 'label maps with values that belong to no class'),
    Rule('value-wide', 'error', 'label maps with values above 255: mmseg reads 8 bits, where 256 becomes 0'),
    Rule(
        'masks-0-255',
        'error',
        'label maps that hold only 0 and 255, which means "ignored": write masks with 0 and 1',
    ),
    Rule('all-ignored', 'error', 'label maps whose every pixel is ignored: nothing can be learned'),
    Rule('mostly-ignored', 'warning', 'label maps that are mostly 255, "ignored"'),
    Rule('class-absent', 'warning', 'classes without a single pixel'),
)

VOC_RULES = IMAGE_RULES | _table(
    Rule('list-bad', 'error', 'lists with more than one image name per line'),
    Rule('xml-missing', 'error', 'images without an annotation file'),
    Rule('xml-unreadable', 'error', 'annotation files that are not XML'),
    Rule('no-annotations', 'error', 'no objects: nothing to learn or to score'),
    Rule('object-incomplete', 'error', 'objects without name or bndbox'),
    Rule('number-bad', 'error', 'values that must be numbers of pixels and are not'),
    Rule('box-negative', 'error', 'boxes with xmax < xmin or ymax < ymin'),
    Rule('box-flat', 'warning', 'boxes with xmax = xmin or ymax = ymin'),
    Rule('box-outside', 'error', 'boxes entirely outside their images'),
)
FOLDER_RULES = IMAGE_RULES | _table(
    Rule('class-empty', 'warning', 'classes without an image'),
    Rule('classes-differ', 'error', 'classes that one split has and another has not', reads='splits'),
    Rule(
        'content-in-classes',
        'error',
        'files of the same content in folders of different classes',
        reads='images',
    ),
)

#: Ids of errors at which training does not stop.
TOLERATED = {rule.id for rule in (*COCO_RULES.values(), *LABEL_MAP_RULES.values()) if rule.tolerated}


def stops_training(violations: Iterable[Violation]) -> Iterator[Violation]:
    """Return the violations at which training stops."""
    return (v for v in violations if v.rule.severity == 'error' and not v.rule.tolerated)
