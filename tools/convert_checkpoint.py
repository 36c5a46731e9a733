#!/usr/bin/env python
"""Turn a published FasterViT file into a small one with our names: no optimizer, no buffers, no classifier.

Example: python tools/convert_checkpoint.py fastervit_0_224_1k.pth.tar fastervit_0.safetensors
"""

import argparse

from fastervit_backbone.utils.console import add_trust_argument, parse_strictly, run_cli


def main() -> None:
    """Parse and convert."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'input', help='published file (path or URL), or a detector checkpoint with a FasterViT in it'
    )
    parser.add_argument('output', help='.safetensors or .pth')
    add_trust_argument(parser)
    args = parse_strictly(parser)

    from fastervit_backbone.checkpoint import convert_checkpoint  # after parsing: --help answers at once
    from fastervit_backbone.checkpoints.io import trusting_pickles

    with trusting_pickles(args.trust_pickle):
        print(convert_checkpoint(args.input, args.output))
    print(f'written: {args.output}')


if __name__ == '__main__':
    run_cli(main)
