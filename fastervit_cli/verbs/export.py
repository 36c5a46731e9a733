"""Export a model to ONNX, OpenVINO or torch.export, and compare the file with the model.

Example:      fastervit export CONFIG CHECKPOINT --size 800x1344 --out exported
Any size:     fastervit export upernet_fastervit0_160k CHECKPOINT --dynamic --out exported
8 bits:       fastervit export CONFIG CHECKPOINT --size 512x512 --format onnx --int8 photos \
                --verify photos --annotations val.json --out exported
Check again:  fastervit export CONFIG CHECKPOINT --check exported/model.onnx

The file takes RGB images and is a model for predict, test and app. Exit code 1: it differs from the model
and was renamed to .rejected.
"""

import shlex
from dataclasses import fields

from ..console import UsageError
from ..options import (
    add_fields,
    add_threads,
    add_trust_argument,
    hide_toolkit_warnings,
    parse_strictly,
    values_of,
    verb_parser,
)
from ..package import options

#: What ``--check`` goes with.
_OF_CHECK = ('config', 'checkpoint', 'check', 'verify', 'annotations', 'options')


def main() -> None:
    """Parse the command line and export."""
    parser, kind = verb_parser(__doc__), options('ExportOptions')
    add_fields(parser, kind)
    add_threads(parser)
    add_trust_argument(parser)
    args = parse_strictly(parser)
    values = values_of(args, kind)
    changed = {i.name for i in fields(kind) if i.name in values and values[i.name] != i.default}
    if 'check' in values and not changed <= set(_OF_CHECK):
        raise UsageError('--check compares a file as it is: leave out the options of an export')
    if 'check' not in values and 'out' not in values:
        raise UsageError('--out DIR is required: where does the file go?')

    from fastervit_backbone.benchmark.advice import advise
    from fastervit_backbone.checkpoints.model_folder import resolve_model
    from fastervit_backbone.export.run import check, export  # after parsing: --help stays fast
    from fastervit_backbone.utils.trust import trusting_pickles

    hide_toolkit_warnings()
    with trusting_pickles(args.trust_pickle):
        if 'check' in values:
            print('\n'.join([*check(**values).lines(), f'accepted: {args.check}']))
            return
        if 'size' not in values and 'dynamic' not in values:
            print('\n'.join(advise(resolve_model(args.config, args.checkpoint)[0], values.get('options'))))
        path, parity = export(**values)
    lines = [*parity.lines(), f'written: {path}']
    if 'size' in values:
        lines.append('images of another shape are padded to this size: boxes at a padded border can differ')
    if 'backbone' not in values:
        lines.append(f'predict: fastervit predict {shlex.quote(str(path))} IMAGES --out predictions')
    print('\n'.join(lines))
