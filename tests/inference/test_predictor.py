"""The results are those of evaluation for every kind of input; every option; every error in one line."""

import pickle

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from fastervit_backbone.datasets.images import read_image
from fastervit_backbone.inference import Predictor
from fastervit_backbone.structures.prediction import decode_mask
from fastervit_backbone.utils.errors import UserError
from tests.helpers import CASCADE, QUICK, ROOT, UPERNET
from tests.mm_helpers import save_untrained
from tests.processes import verb

ALL_SCORES = {'model.test_cfg.rcnn.score_thr': 0.0}


def images_of(shapes):
    return sorted((shapes / 'images' / 'val').glob('*.png'))


@pytest.fixture(scope='module')
def evaluated(shapes, detector, tmp_path_factory):
    """Predictions of tools/test.py, one per image."""
    folder = tmp_path_factory.mktemp('evaluated')
    arguments = [CASCADE, detector, '--out', folder / 'results.pkl', '--cfg-options', *QUICK]
    done = verb('test', *arguments, cwd=folder, SHAPES_ROOT=str(shapes))
    assert done.returncode == 0, done.stdout + done.stderr
    return pickle.loads((folder / 'results.pkl').read_bytes())


def test_objects_are_those_of_evaluation(shapes, detector, evaluated):
    predictor = Predictor(CASCADE, detector, threshold=0)
    paths = images_of(shapes)
    assert predictor.categories.ids == (7, 0, 90) and predictor.categories.own
    total = 0
    for batch in (1, 3):
        for path, prediction in zip(paths, predictor(paths, batch), strict=True):
            expected = next(r for r in evaluated if r['img_path'].endswith(path.name))['pred_instances']
            order = expected['scores'].argsort(descending=True, stable=True)
            scores = torch.from_numpy(prediction.scores)
            torch.testing.assert_close(scores, expected['scores'][order], atol=1e-5, rtol=0)
            if batch > 1:
                continue
            torch.testing.assert_close(torch.from_numpy(prediction.boxes), expected['bboxes'][order])
            assert prediction.labels.tolist() == expected['labels'][order].tolist()
            for i, code in enumerate(prediction.masks):
                assert np.array_equal(decode_mask(code), decode_mask(expected['masks'][order[i]]))
            total += len(prediction)
    assert total > 10


def test_label_map_is_the_models_output(shapes, segmenter):
    predictor = Predictor(UPERNET, segmenter)
    path = images_of(shapes)[0]
    label_map = predictor([path])[0].label_map
    assert label_map.shape == (96, 128) and label_map.dtype == np.uint8 and len(np.unique(label_map)) > 1
    model = predictor.model
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]))
    rgb = torch.from_numpy(np.ascontiguousarray(read_image(path)[..., ::-1])).permute(2, 0, 1)
    with torch.no_grad():
        logits = model.decode_head(model.backbone(((rgb - mean) / std)[None]))
        logits = torch.nn.functional.interpolate(logits, (96, 128), mode='bilinear', align_corners=False)
    assert (torch.from_numpy(label_map) == logits.argmax(1)[0]).float().mean() > 0.999


@pytest.mark.parametrize('head', ['detector', 'segmenter'])
def test_kinds_of_input(head, shapes, request):
    """A path, an RGB array, a Pillow image, and a batch with another size give the same results."""
    config = CASCADE if head == 'detector' else UPERNET
    predictor = Predictor(config, request.getfixturevalue(head), threshold=0.05)
    path, other = images_of(shapes)[:2]
    rgb = np.ascontiguousarray(read_image(path)[..., ::-1])
    small = Image.open(other).resize((77, 61))
    results = predictor([path, rgb, Image.fromarray(rgb)]) + predictor([path, small, path], batch=2)
    assert [r.size for r in results] == [(96, 128)] * 4 + [(61, 77), (96, 128)]
    for same in (results[1], results[2], results[5]):
        if head == 'detector':
            assert np.array_equal(same.boxes, results[0].boxes) and len(same) > 0
        else:
            assert np.array_equal(same.label_map, results[0].label_map)
    picture = predictor.draw(path, results[0])
    assert picture.size == (640, 480)  # small images are enlarged so that names are readable
    original = np.asarray(Image.open(path).resize((640, 480)))
    assert np.abs(np.asarray(picture).astype(int) - original).mean() > 1


def test_options(shapes, detector, segmenter):
    path = images_of(shapes)[0]
    everything = Predictor(CASCADE, detector, threshold=0, options=ALL_SCORES)([path])[0]
    high = float(np.median(everything.scores))
    some = Predictor(CASCADE, detector, threshold=high, options=ALL_SCORES)([path])[0]
    assert 0 < len(some) < len(everything) and some.scores.min() >= high
    np.testing.assert_allclose(some.boxes, everything.boxes[: len(some)], atol=1e-3)
    one = Predictor(CASCADE, detector, threshold=0, classes=['square'], options=ALL_SCORES)([path])[0]
    assert set(one.labels) == {1} and len(one) == (everything.labels == 1).sum()
    deployed = Predictor(CASCADE, detector, threshold=high + 1e-3, deploy=True, options=ALL_SCORES)([path])[0]
    np.testing.assert_allclose(deployed.scores, everything.scores[: len(deployed)], atol=1e-3)
    half = Predictor(CASCADE, detector, threshold=0, amp=True, options=ALL_SCORES)([path])[0]
    assert len(half) and np.isfinite(half.boxes).all() and half.boxes.dtype == np.float32
    larger = Predictor(UPERNET, segmenter, size=(192, 256))([path])[0]
    assert larger.label_map.shape == (96, 128)
    chosen = Predictor(UPERNET, segmenter, classes=['circle', 'square'])([path])[0].label_map
    assert set(np.unique(chosen)) <= {1, 2, 255}


def test_large_images_in_tiles(shapes, detector, segmenter):
    """A row of small images, with one tile each, gives what the small images give."""
    paths = images_of(shapes)
    row = np.concatenate([read_image(p)[..., ::-1] for p in paths[:3]], 1)
    tiled = Predictor(CASCADE, detector, threshold=0.3, tile=128, overlap=0)([row])[0]
    assert tiled.size == (96, 384) and all(m['size'] == [96, 384] for m in tiled.masks)
    assert tiled.boxes[:, 2].max() > 256
    label_map = Predictor(UPERNET, segmenter, tile=128, overlap=0)([row])[0].label_map
    separate = Predictor(UPERNET, segmenter)(paths[:3])
    assert np.array_equal(label_map, np.concatenate([p.label_map for p in separate], 1))


def test_small_image_in_a_batch_with_a_tiled_one(shapes, detector):
    """Tiling a large image of a batch does not change the result of a small one."""
    predictor = Predictor(CASCADE, detector, threshold=0.05, tile=130)
    small = images_of(shapes)[0]
    large = np.concatenate([np.asarray(Image.open(small).convert('RGB'))] * 2, 1)
    (expected,) = predictor([small])
    result = predictor([large, small], batch=2)[1]
    assert len(expected) and np.array_equal(expected.boxes, result.boxes)
    assert np.array_equal(expected.scores, result.scores)


def nano_options(*channels):
    backbone = {'model.backbone.arch': 'nano', 'model.backbone.init_cfg': None}
    return backbone | {'model.neck.in_channels': list(channels)}


def test_category_ids_from_annotations(real_data, tmp_path, monkeypatch):
    """A checkpoint without category ids: they come from the config's annotations, or else count from 1."""
    monkeypatch.setenv('COCO_ROOT', str(real_data / 'coco_mini128'))
    config = ROOT / 'configs' / 'retinanet_fastervit0_1x.py'
    options = nano_options(64, 128, 256)
    options['test_dataloader.dataset.ann_file'] = 'annotations/instances_val2017.json'
    path = save_untrained(config, tmp_path / 'coco.pth', options=options)
    categories = Predictor(config, path, options=options).categories
    assert categories.own and len(categories.ids) == 80
    assert categories.ids[11] == 13 and categories.ids[-1] == 90
    monkeypatch.setenv('COCO_ROOT', str(tmp_path))
    categories = Predictor(config, path, options=options).categories
    assert categories.ids == tuple(range(1, 81)) and not categories.own


def test_labels_of_ade20k_count_from_one(tmp_path):
    config = ROOT / 'configs' / 'fpn_fastervit2_40k.py'
    options = nano_options(32, 64, 128, 256)
    path = save_untrained(config, tmp_path / 'ade.pth', options=options)
    categories = Predictor(config, path, options=options).categories
    assert categories.ids == tuple(range(1, 151)) and categories.names[:2] == ('wall', 'building')


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(threshold=1.5), 'threshold 1.5'),
        (dict(classes=['circel']), r"no class 'circel' \(did you mean 'circle'"),
        (dict(device='gpu'), "device 'gpu'"),
        (dict(device='cuda:99'), 'cuda:99'),
        (dict(device='meta'), 'device meta'),
        (dict(tile=4), '32'),
        (dict(size=(8, 8)), '8x8'),
        (dict(options={'model.backbon.arch': '0'}), 'backbone'),
    ],
)
def test_bad_arguments(arguments, message, detector):
    with pytest.raises(UserError, match=message):
        Predictor(CASCADE, detector, **arguments)


def test_bad_files_and_arrays(shapes, detector, tmp_path):
    predictor = Predictor(CASCADE, detector)
    for bad in (np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3)), 3):
        with pytest.raises(UserError, match='uint8 or uint16, RGB'):
            predictor([bad])
    with pytest.raises(UserError, match=r'absent\.png'):
        predictor([tmp_path / 'absent.png'])
    with pytest.raises(UserError, match='without a checkpoint'):
        Predictor(CASCADE, tmp_path)
    with pytest.raises(UserError, match='does not fit'):
        Predictor(ROOT / 'configs' / 'demo' / 'dino_shapes.py', detector)


@pytest.mark.long
def test_panorama_too_narrow_to_predict_as_a_whole(detector, shapes, monkeypatch):
    """Reduced to the size of a tile it would be a line: only its tiles are predicted."""
    messages = []
    monkeypatch.setattr('fastervit_backbone.inference.predictor.log', messages.append)
    options = {'model.data_preprocessor.pad_size_divisor': 1}  # as in DINO: a narrow image is not padded
    predictor = Predictor(CASCADE, detector, threshold=0.05, tile=160, size=(128, 160), options=options)
    pixels = cv2.imread(str(sorted((shapes / 'images' / 'val').glob('*.png'))[0]))
    strip = np.tile(pixels, (1, 40, 1))[:, :5000]
    (found,) = predictor.predict_pixels([strip])
    assert found.size == (96, 5000) and len(found) > 30 and found.boxes[:, 0].max() > 4000
    assert len(messages) == 1 and '5000x96 pixels is too narrow to be predicted as a whole' in messages[0]


def test_objects_do_not_depend_on_the_batch(shapes, detector):
    """Images of three shapes: each is found in as if it were alone."""
    paths = images_of(shapes)[:3]
    images = [
        Image.open(paths[0]),
        Image.open(paths[1]).resize((150, 61)),
        Image.open(paths[2]).resize((64, 110)),
    ]
    predictor = Predictor(CASCADE, detector, threshold=0.05)
    alone = [predictor([image])[0] for image in images]
    assert sum(map(len, alone)) > 3
    for a, b in zip(alone, predictor(images, batch=3), strict=True):
        assert a.size == b.size and len(a) == len(b)
        np.testing.assert_allclose(a.boxes, b.boxes, atol=1e-3)
        np.testing.assert_allclose(a.scores, b.scores, atol=1e-5)
