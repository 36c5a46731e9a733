"""Print the table of variants in docs/backbone.md."""

import torch

from fastervit_backbone import ARCHS, FasterViT


def variant_table() -> str:
    """Return a Markdown table of the variants; parameters exclude classifier and output norms."""
    lines = [
        '| arch | channels of the four maps | depths | windows 3, 4 | carriers | params, backbone (M) |',
        '|---|---|---|---|---|---|',
    ]
    for name, spec in ARCHS.items():
        with torch.device('meta'):
            millions = sum(p.numel() for p in FasterViT(name, out_norm=None).parameters()) / 1e6
        carriers = f'{spec.carrier_size}x{spec.carrier_size}' if any(spec.hat) else 'none'
        channels, depths = (' '.join(map(str, values)) for values in (spec.channels, spec.depths))
        windows = f'{spec.window_sizes[2]} {spec.window_sizes[3]}'
        lines.append(f'| {name} | {channels} | {depths} | {windows} | {carriers} | {millions:.1f} |')
    return '\n'.join(lines)


if __name__ == '__main__':
    print(variant_table())
