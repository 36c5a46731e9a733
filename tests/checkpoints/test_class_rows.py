"""Classes of weights and data meet by name: rows are ordered, heads start anew, or it is an error."""

import json

import numpy as np
import pytest
import torch

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

from mmdet.testing import demo_mm_inputs

from fastervit_backbone.checkpoints.class_rows import meet_classes
from fastervit_backbone.datasets.shapes import make_shapes
from fastervit_backbone.evaluate import evaluate
from fastervit_backbone.train import train
from fastervit_backbone.utils.errors import UserError
from tests.export.test_export import make_it_detect
from tests.helpers import CASCADE, FPN, IN_PROCESS, ROOT
from tests.mm_helpers import build, load, save_untrained, semantic_batch, with_less_work, with_nano

NAMES = ['circle', 'square', 'triangle']
ORDER = [2, 0, 1]
OTHER = [NAMES[i] for i in ORDER]  # the data's
DETECTORS = ['cascade', 'dino', 'mask2former', 'rtmdet-ins']


def answers(model, batch):
    with torch.no_grad():
        return model.eval()(**model.data_preprocessor(batch, training=False), mode='predict')


@pytest.mark.parametrize('name', [*DETECTORS, 'retinanet'])
def test_reordered_detectors_give_the_same_objects(name):
    path = f'demo/{name}_shapes' if name in DETECTORS else 'retinanet_fastervit0_1x'
    config = with_less_work(with_nano(load(ROOT / 'configs' / f'{path}.py')))
    if name == 'retinanet':
        config.model.bbox_head.num_classes = 3
    if name == 'rtmdet-ins':
        config.model.test_cfg.score_thr = 0.0
    if name == 'cascade':  # boxes of each class
        for head in config.model.roi_head.bbox_head:
            head.reg_class_agnostic = False
    model, other = build(config), build(config)
    make_it_detect(model)
    for key, parameter in model.named_parameters():
        if 'rtm_cls' in key:
            parameter.data.normal_(0, 0.3)
    weights, said = meet_classes(model.state_dict(), NAMES, OTHER, 'a.pth', fresh=False)
    assert 'rows are ordered by name' in said
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, weights[key])}
    assert changed and all(any(part in key for part in ('cls', 'reg', 'logits', 'label')) for key in changed)
    other.load_state_dict(weights)
    batch = demo_mm_inputs(1, [[3, 96, 128]], num_items=[1], num_classes=3, with_mask=True)
    first, second = (answers(net, batch)[0].pred_instances for net in (model, other))
    assert len(first) == len(second) > 5
    assert len(set(first.labels.tolist())) > 1 or name == 'rtmdet-ins'
    rows = [
        sorted(
            (round(float(score), 4), names[label], np.round(box.numpy(), 1).tolist())
            for score, label, box in zip(found.scores, found.labels, found.bboxes, strict=True)
        )
        for found, names in ((first, NAMES), (second, OTHER))
    ]
    assert rows[0] == rows[1]


def test_reordered_segmenters_give_the_same_labels():
    config = load(FPN)
    count = config.model.decode_head.num_classes
    names = [f'class {i}' for i in range(count)]
    model, other = build(config), build(config)
    make_it_detect(model)
    wanted = names[::-1]
    other.load_state_dict(meet_classes(model.state_dict(), names, wanted, 'a.pth', fresh=False)[0])
    batch = semantic_batch(count)
    first, second = (answers(net, batch)[0].pred_sem_seg.data for net in (model, other))
    assert torch.equal(first, count - 1 - second) and len(first.unique()) > 1


def test_rows_by_an_independent_formula():
    anchors = torch.arange(12.0).reshape(12, 1)  # 4 anchors x 3 classes
    weights = {
        'bbox_head.retina_cls.weight': anchors,
        'bbox_head.retina_reg.weight': torch.zeros(16, 1),
        'roi_head.bbox_head.fc_cls.bias': torch.tensor([0.0, 1, 2, 9]),
        'roi_head.bbox_head.0.fc_reg.bias': torch.arange(12.0),
        'roi_head.bbox_head.fc_reg.bias': torch.arange(4.0),
        'neck.weight': torch.arange(3.0),
    }
    found, _ = meet_classes(weights, NAMES, OTHER, 'a.pth', fresh=False)
    expected = [3 * (i // 3) + ORDER[i % 3] for i in range(12)]
    assert found['bbox_head.retina_cls.weight'].flatten().tolist() == expected
    assert found['roi_head.bbox_head.fc_cls.bias'].tolist() == [2, 0, 1, 9]
    assert found['roi_head.bbox_head.0.fc_reg.bias'].tolist() == [8, 9, 10, 11, 0, 1, 2, 3, 4, 5, 6, 7]
    assert found['roi_head.bbox_head.fc_reg.bias'].tolist() == [0, 1, 2, 3]
    assert found['neck.weight'].tolist() == [0, 1, 2]


def test_other_names_are_an_error_or_a_fresh_head():
    weights = {'bbox_head.fc_cls.bias': torch.zeros(4), 'backbone.x': torch.zeros(3)}
    other = ['circle', 'square', 'star']
    with pytest.raises(UserError, match=r"other classes than the data \('triangle' instead of 'star'\)"):
        meet_classes(weights, NAMES, other, 'a.pth', fresh=False)
    found, said = meet_classes(weights, NAMES, other, 'a.pth', fresh=True)
    assert list(found) == ['backbone.x'] and said.endswith('its heads start anew')
    assert 'does not name its classes' in meet_classes(weights, None, NAMES, 'a.pth', fresh=False)[1]
    for names, wanted in ((NAMES, NAMES), (NAMES[:2], NAMES), (NAMES, None)):
        assert meet_classes(weights, names, wanted, 'a.pth', fresh=True)[1] is None


@pytest.mark.parametrize(
    ('key', 'rows'),
    [
        ('decode_head.1.fc_seg.weight', 3),  # PointRend
        ('roi_head.mask_iou_head.fc_mask_iou.weight', 3),
        ('roi_head.bbox_head.fc_cls.bias', 5),  # seesaw loss: C + 2
        ('bbox_head.multi_level_conv_cls.0.weight', 3),
        ('bbox_head.retina_cls.weight', 36),  # softmax: A x (C + 1)
        ('roi_head.semantic_head.conv_logits.weight', 3),
    ],
)
def test_heads_that_are_not_understood_are_not_ordered_in_part(key, rows):
    weights = {'roi_head.mask_head.conv_logits.weight': torch.zeros(3, 1), key: torch.zeros(rows, 1)}
    if 'retina' in key:
        weights['bbox_head.retina_reg.weight'] = torch.zeros(36, 1)
    with pytest.raises(UserError, match=r'another order .* cannot be ordered'):
        meet_classes(weights, NAMES, OTHER, 'a.pth', fresh=False)
    found, said = meet_classes(weights, NAMES, OTHER, 'a.pth', fresh=True)
    assert key not in found and 'start anew' in said


def test_nothing_is_said_of_heads_of_other_sizes():
    weights = {'head.fc.weight': torch.zeros(1000, 4)}
    wanted = [f'class {i}' for i in range(10)]
    assert meet_classes(weights, None, wanted, 'a.pth', fresh=True)[1] is None
    binary = {'decode_head.conv_seg.weight': torch.zeros(1, 4)}
    with pytest.raises(UserError, match='another order'):
        meet_classes(binary, ['bg', 'fg'], ['fg', 'bg'], 'a.pth', fresh=False)


def test_test_and_train(tmp_path, monkeypatch, capsys):
    """The same figures with the classes of the data in another order; a run is not resumed with them."""
    root = make_shapes(tmp_path / 'shapes', train=4, val=4, size=(96, 128))
    monkeypatch.setenv('SHAPES_ROOT', str(root))
    meta = dict(classes=NAMES)
    checkpoint = save_untrained(CASCADE, tmp_path / 'model.pth', dataset_meta=meta)
    options = IN_PROCESS | {'model.test_cfg.rcnn.score_thr': 0.0}
    outputs = [{'test_evaluator.outfile_prefix': str(tmp_path / name)} for name in 'ab']
    evaluate(CASCADE, checkpoint, work_dir=tmp_path / 'wa', options=options | outputs[0])
    for path in (root / 'annotations').iterdir():
        content = json.loads(path.read_text())
        content['categories'] = [content['categories'][i] for i in ORDER]
        path.write_text(json.dumps(content))
    own = tmp_path / 'own.py'
    splits = '\n'.join(
        f'{split}_dataloader = dict(dataset=dict(metainfo=dict(classes={tuple(OTHER)})))'
        for split in ('train', 'val', 'test')
    )
    own.write_text(f'_base_ = {str(CASCADE)!r}\n{splits}\n')
    capsys.readouterr()
    evaluate(own, checkpoint, work_dir=tmp_path / 'wb', options=options | outputs[1])
    assert 'its rows are ordered by name' in capsys.readouterr().out
    usual, found = (
        sorted((box['image_id'], box['category_id'], round(box['score'], 4)) for box in json.loads(text))
        for text in ((tmp_path / f'{name}.bbox.json').read_text() for name in 'ab')
    )
    assert usual == found and len({category for _, category, _ in usual}) == 3
    short = IN_PROCESS | {'train_cfg.max_epochs': 1, 'train_cfg.val_interval': 2}
    train(own, work_dir=tmp_path / 'run', options=short)
    last = torch.load(tmp_path / 'run' / 'epoch_1.pth', weights_only=False)
    assert list(last['meta']['dataset_meta']['classes']) == OTHER
    last['meta']['dataset_meta']['classes'] = NAMES
    torch.save(last, tmp_path / 'run' / 'epoch_1.pth')
    with pytest.raises(UserError, match=r"\('circle' instead of 'triangle'\): resume with the same data"):
        train(own, work_dir=tmp_path / 'run', resume=True, options=short | {'train_cfg.max_epochs': 2})
    start = short | {'load_from': str(checkpoint)}
    model = train(own, work_dir=tmp_path / 'other', options=start | {'optim_wrapper.optimizer.lr': 1e-12})
    assert 'its rows are ordered by name' in capsys.readouterr().out
    saved = torch.load(checkpoint, weights_only=False)['state_dict']
    key = 'roi_head.bbox_head.0.fc_cls.bias'
    torch.testing.assert_close(model.state_dict()[key], saved[key][[*ORDER, 3]], atol=1e-5, rtol=0)
