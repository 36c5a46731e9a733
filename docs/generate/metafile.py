"""Write model-index.yml and configs/metafile.yml, in which mmengine and mim find the configs by name.

Example: python docs/generate/metafile.py
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import yaml

from fastervit_backbone.recipes import RECIPES
from fastervit_backbone.utils.places import shipped_configs
from fastervit_cli.console import run_cli
from fastervit_cli.options import parse_strictly

ROOT = Path(__file__).resolve().parent.parent.parent
#: Head of our names -> its name, the part after the backbone, and the data, as mmdet and mmseg write them.
HEADS = {name: recipe.mim for name, recipe in RECIPES.items() if recipe.mim} | {
    'faster-rcnn-c4': ('faster-rcnn', 'c4_{}', 'VOC0712'),
    'dino-5scale': ('dino-5scale', '{}_coco', 'COCO'),
    'mask2former-panoptic': ('mask2former', 'lsj-{}_coco-panoptic', 'COCO'),
}
#: Data set of our names of classifiers -> mmpretrain's part of the name, and its name.
CLASSIFIED = {
    'imagenet': ('in1k', 'ImageNet-1k'),
    'imagenet21k': ('in21k', 'ImageNet-21k'),
    'imagenet200': ('in200', '200 classes of ImageNet-1k'),
    'cifar10': ('cifar10', 'CIFAR-10'),
}


def canonical_name(stem: str) -> str:
    """Translate ``cascade_fastervit0_3x`` to ``cascade-mask-rcnn_fastervit-0_fpn_ms-crop-3x_coco``.

    A classifier is named as mmpretrain does: ``imagenet_fastervit0_300e``, ``fastervit-0_300e_in1k``.
    """
    head, _, rest = stem.partition('_')
    if head in CLASSIFIED:
        backbone = (
            rest.replace('fastervit', 'fastervit-').replace('4_21k', '4-21k').replace('21k_224', '21k-224')
        )
        return f'{backbone}_{CLASSIFIED[head][0]}'
    backbone, _, schedule = rest.rpartition('_')
    name, pattern, _ = HEADS[head]
    variant = backbone.removeprefix('fastervit')
    backbone = backbone if variant == backbone else f'fastervit-{variant.replace("_", "-")}'
    return f'{name}_{backbone}_{pattern.format(schedule)}'


def models() -> Iterator[dict]:
    """Yield the entry of every config of a published recipe."""
    for name, path in shipped_configs().items():
        if name.startswith('demo/'):
            continue
        head = path.stem.partition('_')[0]
        yield {
            'Name': canonical_name(path.stem),
            'Alias': [path.stem],
            'In Collection': 'FasterViT',
            'Config': f'configs/{name}.py',
            'Metadata': {'Training Data': CLASSIFIED[head][1] if head in CLASSIFIED else HEADS[head][2]},
            'Weights': None,  # not trained here yet
        }


def files() -> dict[Path, str]:
    """Return both files' contents by path."""
    collection = {
        'Name': 'FasterViT',
        'Metadata': {'Architecture': ['FasterViT']},
        'Paper': {
            'URL': 'https://arxiv.org/abs/2306.06189',
            'Title': 'FasterViT: Fast Vision Transformers with Hierarchical Attention',
        },
    }
    content = {'Collections': [collection], 'Models': list(models())}
    return {
        ROOT / 'model-index.yml': yaml.safe_dump({'Import': ['configs/metafile.yml']}),
        ROOT / 'configs' / 'metafile.yml': yaml.safe_dump(content, sort_keys=False, width=110),
    }


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parse_strictly(parser)
    for path, text in files().items():
        path.write_text(text)


if __name__ == '__main__':
    run_cli(main)
