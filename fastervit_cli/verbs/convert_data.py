"""Convert annotations: YOLO, PASCAL VOC or labelme to COCO, masks to label maps, label maps to COCO and back.

YOLO (boxes or polygons): fastervit convert-data yolo data.yaml --out jsons
PASCAL VOC:               fastervit convert-data voc VOC2012/ --out jsons
labelme:                  fastervit convert-data labelme FOLDER --out jsons
Black and white masks:    fastervit convert-data masks masks/ --map 255:1 --out labels
Masks with colors:        fastervit convert-data masks masks/ --colors colors.txt --out labels
COCO to label maps:       fastervit convert-data coco instances.json --out labels
Label maps to COCO:       fastervit convert-data labels maps/ --images images/ --classes a b --out jsons
JPEG files packed in npz: fastervit convert-data packed FOLDER --out images (one folder per class)

Images stay where they are. colors.txt has a line "R G B name" for each class, from value 0 on.
"""

import argparse
from pathlib import Path

from ..options import parse_strictly, verb_parser

#: Option -> the formats that it is for.
_OPTIONS = {'classes': ('voc', 'labels'), 'map': ('masks',), 'colors': ('masks',), 'images': ('labels',)}


def parse_pair(text: str) -> tuple[int, int]:
    """Parse ``255:1``; for argparse's ``type``."""
    old, _, new = text.partition(':')
    if not (old.isdecimal() and new.isdecimal()):
        raise argparse.ArgumentTypeError(f'{text}: expected OLD:NEW, such as 255:1')
    return int(old), int(new)


def main() -> None:
    """Parse the command line and convert."""
    parser = verb_parser(__doc__)
    formats = ['yolo', 'voc', 'labelme', 'masks', 'coco', 'labels', 'packed']
    parser.add_argument('format', choices=formats, help='format of the annotations')
    parser.add_argument(
        'source',
        help='YOLO: data.yaml; VOC: folder that contains Annotations/ and JPEGImages/; labelme, masks, '
        'labels: their folder; coco: json; packed: folder of SPLIT.npz (jpeg, sizes, labels), classes.json',
    )
    parser.add_argument('--out', required=True, metavar='DIR', help='output folder')
    parser.add_argument(
        '--classes',
        nargs='+',
        metavar='NAME',
        help='VOC: classes to keep, in this order (default: all, sorted); labels: names of the values 0, 1, '
        '...; "background" is no object',
    )
    parser.add_argument(
        '--map', nargs='+', type=parse_pair, metavar='OLD:NEW', help='masks: values to change'
    )
    parser.add_argument('--colors', metavar='FILE', help='masks: colors and names of the classes')
    parser.add_argument('--images', metavar='DIR', help='labels: folder of the images')
    args = parse_strictly(parser)

    from fastervit_backbone.datasets.convert_run import convert  # after parsing: --help stays fast
    from fastervit_backbone.utils.errors import UserError
    from fastervit_backbone.utils.files import check_folder_writable
    from fastervit_backbone.utils.printable import printable

    for option, only in _OPTIONS.items():
        if getattr(args, option) and args.format not in only:
            raise UserError(f'--{option} is only for {" and ".join(only)}, not for {args.format}')
    if args.format == 'labels' and not (args.images and args.classes):
        raise UserError('labels needs --images and --classes')
    check_folder_writable('--out', args.out)
    values = None if args.map is None else dict(args.map)
    for line in convert(
        args.format,
        Path(args.source),
        Path(args.out),
        classes=args.classes,
        values=values,
        colors=args.colors,
        images=args.images,
    ):
        print(printable(line))
