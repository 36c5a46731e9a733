#!/usr/bin/env python
"""Convert YOLO or PASCAL VOC annotations to COCO jsons, one per split; the images stay where they are.

YOLO (boxes or polygons): python tools/convert_data.py yolo data.yaml --out jsons
PASCAL VOC:               python tools/convert_data.py voc VOC2012/ --out jsons
JPEG files packed in npz: python tools/convert_data.py packed FOLDER --out images (one folder per class)

It ends with the tools/check_data.py command that checks the result.
"""

import json
from pathlib import Path

from fastervit_cli.console import parse_strictly, run_cli, tool_parser


def main() -> None:
    """Parse the command line and convert."""
    parser = tool_parser(__doc__)
    parser.add_argument('format', choices=['yolo', 'voc', 'packed'], help='format of the annotations')
    parser.add_argument(
        'source',
        help='YOLO: data.yaml; VOC: folder that contains Annotations/ and JPEGImages/; packed: folder of '
        'SPLIT.npz (jpeg, sizes, labels) and classes.json',
    )
    parser.add_argument(
        '--out', required=True, metavar='DIR', help='output folder of the jsons (packed: of the images)'
    )
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
    from fastervit_backbone.datasets.packed import unpack_images
    from fastervit_backbone.utils.errors import UserError
    from fastervit_backbone.utils.files import check_folder_writable, replacing

    check_folder_writable('--out', args.out)
    if args.format != 'voc' and args.classes:
        raise UserError(f'--classes is only for voc: the source of {args.format} names the classes')
    if args.format == 'packed':
        for name, count in unpack_images(args.source, args.out).items():
            print(f'{Path(args.out) / name}: {count} images')
        print(f'next: python tools/check_data.py {args.out}')
        return
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
