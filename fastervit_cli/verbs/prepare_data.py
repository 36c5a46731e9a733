"""Put COCO, ADE20K, VOC or ImageNet where the configs expect it, and check that it is complete.

From your archives or folders: fastervit prepare-data coco ~/Downloads
From the network:              fastervit prepare-data ade20k --download
Unpacked ImageNet, linked:     fastervit prepare-data imagenet /data/imagenet
Only check what is there:      fastervit prepare-data voc --root /data/VOCdevkit
"""

from ..options import parse_strictly, verb_parser


def main() -> None:
    """Parse the command line and prepare."""
    parser = verb_parser(__doc__)
    parser.add_argument('data', choices=['coco', 'ade20k', 'voc', 'imagenet'], help='data set')
    parser.add_argument(
        'source',
        nargs='*',
        help='archives, folders with archives, or folders with the unpacked data set (linked, not copied)',
    )
    parser.add_argument(
        '--root',
        metavar='DIR',
        help='target folder (default: $COCO_ROOT, $ADE_ROOT, $VOC_ROOT or $IMAGENET_ROOT if set, else '
        'the folder below data/ that the configs use)',
    )
    parser.add_argument('--download', action='store_true', help='download what is missing')
    args = parse_strictly(parser)

    # after parsing: --help stays fast
    from fastervit_backbone.datasets.prepare import DATA_SETS, prepare, prepare_imagenet
    from fastervit_backbone.utils.errors import UserError

    if args.data != 'imagenet':
        root = prepare(DATA_SETS[args.data], args.source, root=args.root, download=args.download)
    elif args.download or len(args.source) > 1:
        raise UserError('imagenet cannot be downloaded without an account: give its unpacked folder')
    else:
        root = prepare_imagenet(next(iter(args.source), None), root=args.root)
    print(f'{args.data} is complete and readable in {root}')
