#!/usr/bin/env python
"""Convert YOLO or PASCAL VOC annotations to COCO jsons, one per split; the images stay where they are.

YOLO (boxes or polygons): python tools/convert_data.py yolo data.yaml --out jsons
PASCAL VOC:               python tools/convert_data.py voc VOC2012/ --out jsons

It ends with the tools/check_data.py command that checks the result.
"""

import json
from pathlib import Path

from fastervit_cli.console import parse_strictly, run_cli, tool_parser


def main() -> None:
    """Parse the command line and convert."""
    parser = tool_parser(__doc__)
    parser.add_argument('format', choices=['yolo', 'voc'], help='format of the annotations')
    parser.add_argument(
        'source', help='YOLO: data.yaml; VOC: folder that contains Annotations/ and JPEGImages/'
    )
    parser.add_argument('--out', required=True, metavar='DIR', help='output folder of the jsons')
    parser.add_argument(
        '--classes',
        nargs='+',
        metavar='NAME',
        help='VOC: classes to keep, in this order (default: all, sorted)',
    )
    args = parse_strictly(parser)

    from fastervit_backbone.datasets.convert import (
        convert_voc,
        convert_yolo,
    )  # after parsing: --help stays fast
    from fastervit_backbone.utils.errors import UserError
    from fastervit_backbone.utils.files import check_folder_writable, replacing

    check_folder_writable('--out', args.out)
    if args.format == 'yolo' and args.classes:
        raise UserError('--classes is only for voc: the data.yaml of yolo names the classes')
    splits = convert_yolo(args.source) if args.format == 'yolo' else convert_voc(args.source, args.classes)
    split_options, image_folders = [], []
    for name, split in splits.items():
        path = Path(args.out) / f'{name}.json'
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(split.content))
        for line in split.skipped:
            print(f'skipped: {line}')
        images, objects, classes = (len(split.content[k]) for k in ('images', 'annotations', 'categories'))
        print(f'{path}: {images} images, {objects} objects, {classes} classes; images in {split.images}')
        split_options.append(f'--{name} {path}')
        image_folders.append(str(split.images))
    if set(splits) <= {'train', 'val', 'test'}:
        options = ' '.join([*split_options, '--images', *image_folders])
        print(f'next: python tools/check_data.py {options}')


if __name__ == '__main__':
    run_cli(main)
