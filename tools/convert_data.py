#!/usr/bin/env python
"""Turn YOLO or PASCAL VOC annotations into COCO jsons, one for each split; images stay where they are.

YOLO, boxes or polygons: python tools/convert_data.py yolo data.yaml --out jsons
PASCAL VOC: python tools/convert_data.py voc VOC2012/ --out jsons
"""

import argparse
import json
from pathlib import Path

from fastervit_backbone.utils.console import parse_strictly, run_cli


def main() -> None:
    """Parse and convert."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('format', choices=['yolo', 'voc'], help='what the annotations are')
    parser.add_argument('source', help='data.yaml of YOLO, or folder with Annotations and JPEGImages of VOC')
    parser.add_argument('--out', required=True, help='folder for SPLIT.json')
    parser.add_argument(
        '--classes', nargs='+', metavar='NAME', help='of VOC: these, in this order (default: all, sorted)'
    )
    args = parse_strictly(parser)

    from fastervit_backbone.datasets.convert import convert_voc, convert_yolo
    from fastervit_backbone.utils.errors import UserError
    from fastervit_backbone.utils.files import (
        check_folder_writable,
        replacing,  # after parsing: --help answers at once
    )

    check_folder_writable('--out', args.out)
    if args.format == 'yolo' and args.classes:
        raise UserError('--classes is for voc: the data.yaml of yolo has names')
    splits = convert_yolo(args.source) if args.format == 'yolo' else convert_voc(args.source, args.classes)
    arguments = []
    for name, split in splits.items():
        path = Path(args.out) / f'{name}.json'
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(split.content))
        for line in split.skipped:
            print(f'left out: {line}')
        counts = f'{len(split.content["images"])} images, {len(split.content["annotations"])} objects'
        print(f'{path}: {counts}, {len(split.content["categories"])} classes; images in {split.images}')
        arguments.append((f'--{name} {path}', str(split.images)))
    if set(splits) <= {'train', 'val', 'test'}:
        said = ' '.join(a for a, _ in arguments)
        print(f'next: python tools/check_data.py {said} --images {" ".join(i for _, i in arguments)}')


if __name__ == '__main__':
    run_cli(main)
