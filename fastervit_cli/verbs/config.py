"""List the configs, show one as it is after inheritance, or what differs between two.

Example: fastervit config                                   (all names)
Flat:    fastervit config cascade_fastervit0_3x --flat
Differ:  fastervit config cascade_fastervit0_3x --diff cascade_fastervit4_3x
"""

import difflib
import sys

from ..options import parse_strictly, verb_parser
from ..package import utils


def main() -> None:
    """Parse the command line and print."""
    parser = verb_parser(__doc__)
    parser.add_argument('config', nargs='?', help='config file, or the name of one that is listed')
    parser.add_argument('--flat', action='store_true', help='print it as one file, without bases')
    parser.add_argument('--diff', metavar='CONFIG', help='print the lines in which another one differs')
    args = parse_strictly(parser)
    if args.config is None:
        print('\n'.join(sorted(utils('places').shipped_configs())))
        return

    # after parsing: --help answers at once
    from fastervit_backbone.engine.config.load import find_config, load_config
    from fastervit_backbone.engine.config.write import as_python

    if not args.flat and args.diff is None:
        print(find_config(args.config))
        return
    text = as_python(load_config(args.config))
    if args.diff is None:
        print(text)
        return
    other = as_python(load_config(args.diff))
    lines = difflib.unified_diff(
        text.splitlines(), other.splitlines(), args.config, args.diff, n=0, lineterm=''
    )
    sys.stdout.writelines(f'{line}\n' for line in lines)
