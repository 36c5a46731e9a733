"""Counts against explicit formulas, and the table of models."""

from pathlib import Path

import pytest
import torch

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

import model_table
from model_table import ROOT, leaf_configs, write_table

from fastervit_backbone import FasterViT
from fastervit_backbone.benchmark.complexity import Complexity, count_parameters, measure
from fastervit_backbone.benchmark.config_models import build_config_model
from fastervit_backbone.benchmark.paper import PAPER_RESULTS
from fastervit_backbone.utils.errors import UserError

DEMOS = ROOT / 'configs' / 'demo'


def conv(c_in, c_out, side, height, width):
    return 2 * c_in * c_out * side**2 * height * width


def attention(tokens, windows, dim, mlp=4):
    """Count one block on windows of ``tokens``: qkv, two products, projection, MLP."""
    linear = 2 * tokens * dim * (3 * dim + dim + 2 * mlp * dim)
    return windows * (linear + 2 * 2 * tokens * tokens * dim)


def nano_flops():
    """Count FasterViT nano at 64x96 by hand: maps 16x24, 8x12, then 4x6 and 2x3, padded to 7x7."""
    stem = conv(3, 32, 3, 32, 48) + conv(32, 32, 3, 16, 24)
    stage1 = 1 * 2 * conv(32, 32, 3, 16, 24) + conv(32, 64, 3, 8, 12)
    stage2 = 2 * 2 * conv(64, 64, 3, 8, 12) + conv(64, 128, 3, 4, 6)
    carriers = 4
    pooling = 2 * 2 * 7 * 7 * 128 + 2 * 2 * 2 * 7 * 128  # 7 rows, then 7 columns, to 2, as products
    tokenizer = 2 * 128 * 9 * 7 * 7 + pooling  # depthwise convolution
    blocks = 4 * (attention(carriers, 1, 128) + attention(49 + carriers, 1, 128))
    stage3 = tokenizer + blocks + conv(128, 256, 3, 2, 3)
    stage4 = 2 * attention(49, 1, 256)
    return stem + stage1 + stage2 + stage3 + stage4


def test_backbone():
    model, _ = build_config_model(DEMOS / 'fpn_shapes.py')
    model.backbone = FasterViT('nano')
    assert measure(model, (64, 96)).backbone_flops == nano_flops()


def test_semantic_fpn():
    """1x1 laterals, 3x3 outputs, the convolutions of the scale heads, the classifier; strides 4 to 32."""
    model, _ = build_config_model(DEMOS / 'fpn_shapes.py')
    model.backbone = FasterViT('nano')
    cost = measure(model, (64, 96))
    sizes = [(16, 24), (8, 12), (4, 6), (2, 3)]
    neck = heads = 0
    for level, (channels, size) in enumerate(zip((32, 64, 128, 256), sizes, strict=True)):
        neck += conv(channels, 64, 1, *size) + conv(64, 64, 3, *size)
        heads += sum(conv(64, 64, 3, *sizes[max(level - k, 0)]) for k in range(max(level, 1)))
    assert cost.flops == nano_flops() + neck + heads + conv(64, 4, 1, 16, 24)
    assert cost.macs * 2 == cost.flops
    assert cost.parameters == count_parameters(model)
    assert cost.backbone_parameters == count_parameters(model.backbone)


def test_box_heads_are_counted_with_all_regions():
    model, _ = build_config_model(DEMOS / 'cascade_shapes.py')
    head = model.roi_head.bbox_head[0]
    weights = sum(p.numel() for name, p in head.named_parameters() if name.endswith('weight'))
    flops = measure(model, (64, 96)).flops
    model.roi_head.bbox_head[0] = torch.nn.Identity()
    assert flops - measure(model, (64, 96)).flops == 1000 * 2 * weights  # all layers are linear


def test_every_config_is_in_the_table():
    names = {p.stem for p in leaf_configs()}
    assert set(PAPER_RESULTS) <= names and len(names) == len(leaf_configs())


def test_page_and_rows(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(model_table, 'TRAINED', tmp_path / 'trained.json')
    (tmp_path / 'trained.json').write_text(
        '[{"config": "fpn_shapes", "result": "mIoU 0.9", "log": "l.json", "seed": 0, "commit": "abc"}]'
    )
    configs = [f'{DEMOS}/{head}_shapes.py' for head in ('fpn', 'dino')]
    text = write_table(configs, tmp_path / 'models.md')
    assert (tmp_path / 'models.md').read_text() == text
    # the table of recipes before them has three columns
    lines = [line for line in text.splitlines() if line.startswith('| `') and line.count('|') > 5]
    rows = {line.split('|')[1].strip(): line for line in lines}
    assert 'mIoU 0.9 ([log](l.json), seed 0, commit abc)' in rows['`fpn_shapes.py`']
    assert 'not trained here' in rows['`dino_shapes.py`']
    printed = capsys.readouterr().out
    assert all(line in printed for line in rows.values())
    (tmp_path / 'trained.json').write_text('[')
    with pytest.raises(UserError, match=r'trained\.json is broken'):
        write_table(configs[:1])
    with pytest.raises(UserError, match='no config at'):
        write_table(['configs/nothing.py'])
    with pytest.raises(UserError, match=r'--markdown .* is a folder: name a file'):
        write_table(configs[:1], tmp_path)
    (tmp_path / 'schedule.py').write_text('max_epochs = 3\n')
    with pytest.raises(UserError, match=r'schedule\.py has no model=dict'):
        write_table([str(tmp_path / 'schedule.py')])


def test_sections():
    names = {
        'retinanet_fastervit0_1x': 'Other detectors',
        'dino-5scale_fastervit0_12e': 'DINO, COCO',
        'mine': 'Other configs',
    }
    assert {name: model_table._section(Path(f'{name}.py')) for name in names} == names


def test_a_difference_to_the_paper_is_reported():
    cost = Complexity(parameters=1, backbone_parameters=1, flops=2 * 945 * 10**9, backbone_flops=1)
    assert model_table._compare_macs(cost, 944) == '944'
    assert model_table._compare_macs(cost, 900) == '900 (ours is +5.0%)'


def test_paper_ratios():
    """Table 2: FasterViT-2 has 1.78 times the throughput of Swin-T and 1.73 times that of ConvNeXt-T."""
    throughput = {name: result.throughput for name, result in PAPER_RESULTS.items()}
    ours = throughput['cascade_fastervit2_3x']
    assert round(ours / throughput['cascade_swin-t_3x'], 2) == 1.78
    assert round(ours / throughput['cascade_convnext-t_3x'], 2) == 1.73
