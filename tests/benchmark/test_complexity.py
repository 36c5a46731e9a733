"""Counts against formulas written out by hand."""

from pathlib import Path

import pytest
import torch

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

import model_table
from model_table import ROOT, leaf_configs, write_table

from fastervit_backbone import FasterViT
from fastervit_backbone.benchmark.candidates import build_config_model
from fastervit_backbone.benchmark.complexity import _boxes, count_parameters, measure
from fastervit_backbone.benchmark.paper import PRINTED
from fastervit_backbone.utils.errors import UserError


def conv(c_in, c_out, side, height, width):
    return 2 * c_in * c_out * side**2 * height * width


def attention(tokens, windows, dim, mlp=4):
    """One block on windows of so many tokens: qkv, two products, projection, MLP."""
    linear = 2 * tokens * dim * (3 * dim + dim + 2 * mlp * dim)
    return windows * (linear + 2 * 2 * tokens * tokens * dim)


def nano_flops():
    """FasterViT nano, 64x96: by hand from the architecture (DESIGN section 3); maps 16x24, 8x12, 4x6 padded to 7x7, 2x3 padded to 7x7."""
    stem = conv(3, 32, 3, 32, 48) + conv(32, 32, 3, 16, 24)
    stage1 = 1 * 2 * conv(32, 32, 3, 16, 24) + conv(32, 64, 3, 8, 12)
    stage2 = 2 * 2 * conv(64, 64, 3, 8, 12) + conv(64, 128, 3, 4, 6)
    carriers = 4
    pooling = 2 * 2 * 7 * 7 * 128 + 2 * 2 * 2 * 7 * 128  # 7 rows, then 7 columns, to 2, as products
    tokenizer = 2 * 128 * 9 * 7 * 7 + pooling  # depthwise convolution
    stage3 = (
        tokenizer
        + 4 * (attention(carriers, 1, 128) + attention(49 + carriers, 1, 128))
        + conv(128, 256, 3, 2, 3)
    )
    stage4 = 2 * attention(49, 1, 256)
    return stem + stage1 + stage2 + stage3 + stage4


def test_the_backbone_by_hand():
    model, _ = build_config_model(ROOT / 'configs' / 'demo' / 'fpn_shapes.py')
    model.backbone = FasterViT('nano')
    assert measure(model, (64, 96)).backbone_flops == nano_flops()


def test_semantic_fpn_by_hand():
    """1x1 laterals, 3x3 outputs, the scale heads' convolutions and the classifier, at strides 4, 8, 16, 32 of 64x96."""
    model, _ = build_config_model(ROOT / 'configs' / 'demo' / 'fpn_shapes.py')
    model.backbone = FasterViT('nano')
    cost = measure(model, (64, 96))
    sizes = [(16, 24), (8, 12), (4, 6), (2, 3)]
    neck = sum(
        conv(c, 64, 1, *s) + conv(64, 64, 3, *s) for c, s in zip((32, 64, 128, 256), sizes, strict=True)
    )
    heads = sum(
        sum(conv(64, 64, 3, *sizes[max(level - k, 0)]) for k in range(max(level, 1))) for level in range(4)
    )
    assert cost.flops == nano_flops() + neck + heads + conv(64, 4, 1, 16, 24)
    assert cost.macs * 2 == cost.flops
    assert cost.parameters == count_parameters(model) and cost.backbone_parameters == count_parameters(
        model.backbone
    )


def test_box_heads_are_counted_with_all_regions():
    model, _ = build_config_model(ROOT / 'configs' / 'demo' / 'cascade_shapes.py')
    head = model.roi_head.bbox_head[0]
    inner = sum(
        2 * p.numel() for n, p in head.named_parameters() if n.endswith('weight')
    )  # all linear: two FLOPs a weight and region
    without = measure(model, (64, 96)).flops
    model.roi_head.bbox_head[0] = torch.nn.Identity()
    assert without - measure(model, (64, 96)).flops == 1000 * inner
    boxes = _boxes(1000, (64, 96))
    assert (
        (boxes[:, 1:3] >= 0).all()
        and (boxes[:, 3] < 96).all()
        and (boxes[:, 4] < 64).all()
        and (boxes[:, 3] > boxes[:, 1]).all()
    )


def test_every_config_is_in_the_table():
    names = {p.stem for p in leaf_configs()}
    assert set(PRINTED) <= names and len(names) == len(leaf_configs())


def test_page_and_rows(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(model_table, 'TRAINED', tmp_path / 'trained.json')
    (tmp_path / 'trained.json').write_text(
        '[{"config": "fpn_shapes", "result": "mIoU 0.9", "log": "l.json", "seed": 0, "commit": "abc"}]'
    )
    configs = [str(ROOT / 'configs' / 'demo' / f'{h}_shapes.py') for h in ('fpn', 'dino')]
    text = write_table(configs, tmp_path / 'models.md')
    assert (tmp_path / 'models.md').read_text() == text
    rows = {line.split('|')[1].strip(): line for line in text.splitlines() if line.startswith('| `')}
    assert (
        'mIoU 0.9 ([log](l.json), seed 0, commit abc)' in rows['`fpn_shapes.py`']
        and 'not trained here' in rows['`dino_shapes.py`']
    )
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


def test_a_difference_to_the_paper_is_said():
    from fastervit_backbone.benchmark.complexity import Complexity

    cost = Complexity(1, 1, 2 * 945 * 10**9, 1)
    assert (
        model_table._compared(cost, 944) == '944'
        and model_table._compared(cost, 900) == '900 (ours is +5.0%)'
    )


def test_paper_ratios():
    """The paper's own words: FasterViT-2 has 1.78 times the throughput of Swin-T and 1.73 times that of ConvNeXt-T (table 2)."""
    ours = PRINTED['cascade_fastervit2_3x'].throughput
    assert round(ours / PRINTED['cascade_swin-t_3x'].throughput, 2) == 1.78
    assert round(ours / PRINTED['cascade_convnext-t_3x'].throughput, 2) == 1.73
