"""Measure the rows of the paper's ablations: parameters, multiply-adds, and speed beside the paper's.

Example: fastervit ablate --tables S.1 5
The page: fastervit ablate --out docs/ablations.md
"""

from ..options import parse_size, parse_strictly, verb_parser

TABLES = ['S.1', 'S.4', 'S.7', '5', '7', 'improvements']


def main() -> None:
    """Parse the command line and measure."""
    parser = verb_parser(__doc__)
    parser.add_argument(
        '--tables', nargs='+', default=TABLES, metavar='TABLE', help=f'{", ".join(TABLES)} (default: all)'
    )
    parser.add_argument('--size', type=parse_size, default=(224, 224), metavar='HxW', help='default: 224x224')
    parser.add_argument('--batch', type=int, default=8, help='images per batch (default: 8)')
    parser.add_argument('--rounds', type=int, default=9, help='measurements per model (default: 9)')
    parser.add_argument('--device', choices=['cpu', 'cuda'], help='default: cuda if available')
    parser.add_argument('--out', metavar='PAGE.md', help='write a page, with a picture beside it')
    args = parse_strictly(parser)

    import torch

    from fastervit_backbone.benchmark.setting import Setting  # after parsing: --help stays fast
    from fastervit_backbone.utils.command import command_line
    from fastervit_backbone.utils.files import check_file_writable
    from fastervit_paper.ablations import measure_tables

    if args.out is not None:
        check_file_writable('--out', args.out)
    device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    setting = Setting(size=args.size, batch=args.batch, device=device)
    measure_tables(args.tables, setting, args.rounds, args.out, command_line())
