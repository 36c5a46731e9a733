"""Predictions in other formats say the same as the json."""

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

pytest.importorskip('mmdet')
pytest.importorskip('supervision')

from fastervit_backbone.datasets.labelme import find as find_labelme
from fastervit_backbone.datasets.labelme import read_labelme
from fastervit_backbone.datasets.yolo import read_yolo
from fastervit_backbone.inference.predictor import Predictor
from fastervit_backbone.inference.sources import find_sources
from fastervit_backbone.prediction.formats import _write_labelme, save_as
from fastervit_backbone.prediction.run import PredictionRun
from fastervit_backbone.structures.prediction import Categories, Prediction, decode_mask, encode_mask
from fastervit_backbone.utils.errors import UserError
from tests.helpers import CASCADE, UPERNET


def test_csv_and_yolo(detector, shapes, tmp_path):
    images = tmp_path / 'set' / 'images'
    shutil.copytree(shapes / 'images/val', images / 'val')
    predictor = Predictor(CASCADE, detector, threshold=0.1)
    run = PredictionRun(predictor, tmp_path / 'out', {}, pictures=False, save=('csv', 'yolo'))
    run.run(find_sources([images]))
    content = json.loads((tmp_path / 'out/predictions.json').read_text())
    objects = content['annotations']
    assert len(objects) > 10

    with (tmp_path / 'out/predictions.csv').open() as file:
        rows = list(csv.DictReader(file))
    names = {c['id']: c['name'] for c in content['categories']}
    assert [row['class'] for row in rows] == [names[a['category_id']] for a in objects]
    for row, a in zip(rows, objects, strict=True):
        x, y, w, h = a['bbox']
        assert [float(row[k]) for k in ('x1', 'y1', 'x2', 'y2')] == [x, y, x + w, y + h]
        assert float(row['score']) == a['score'] and int(row['class_id']) == a['category_id']

    shutil.copytree(tmp_path / 'out/yolo/labels', tmp_path / 'set/labels')
    yaml = tmp_path / 'set/data.yaml'
    yaml.write_text((tmp_path / 'out/yolo/data.yaml').read_text() + 'train: images\n')
    again = read_yolo(yaml)['train'].content
    found = {image['id']: image['file_name'] for image in again['images']}
    assert {c['name'] for c in again['categories']} == set(names.values())
    by_image = {Path(image['file_name']).name: image['id'] for image in content['images']}
    for image_id, name in found.items():
        old = [a['bbox'] for a in objects if a['image_id'] == by_image[Path(name).name]]
        new = [a['bbox'] for a in again['annotations'] if a['image_id'] == image_id]
        np.testing.assert_allclose(np.reshape(new, (-1, 4)), np.reshape(old, (-1, 4)), atol=0.011)


def test_label_maps_are_no_yolo(segmenter, tmp_path):
    with pytest.raises(UserError, match='--save yolo'):
        PredictionRun(Predictor(UPERNET, segmenter), tmp_path / 'out', {}, save=('yolo',))


def test_supervision():
    mask = np.zeros((6, 8), bool)
    mask[1:3, 2:5] = True
    boxes, scores = np.array([[2, 1, 5, 3]], np.float32), np.array([0.7], np.float32)
    prediction = Prediction((6, 8), boxes, scores, np.array([1]), [encode_mask(mask)])
    found = prediction.to_supervision(Categories(('a', 'b'), (7, 9)))
    assert (found.xyxy == boxes).all() and found.confidence[0] == scores[0]
    assert found.data['class_name'].tolist() == ['b'] and found.class_id.tolist() == [1]
    assert (found.mask[0] == decode_mask(prediction.masks[0])).all()
    empty = Prediction((6, 8), boxes[:0], scores[:0], np.zeros(0, int), [])
    assert len(empty.to_supervision(Categories(('a',), (1,)))) == 0


def test_polygons_draw_the_masks(detector, shapes, tmp_path):
    predictor = Predictor(CASCADE, detector, threshold=0)
    images = shapes / 'images' / 'val'
    run = PredictionRun(predictor, tmp_path, {}, pictures=False, save=('polygons',))
    run.run(find_sources([images]))
    masks, polygons = (
        json.loads((tmp_path / name).read_text()) for name in ('predictions.json', 'polygons.json')
    )
    assert len(masks['annotations']) == len(polygons['annotations']) > 5
    sizes = {image['id']: (image['height'], image['width']) for image in masks['images']}
    for a, b in zip(masks['annotations'], polygons['annotations'], strict=True):
        parts, size = b['segmentation'], sizes[a['image_id']]
        drawn = np.zeros(size, np.uint8)
        if parts:
            drawn = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(parts, *size)))
        assert np.array_equal(drawn, coco_mask.decode(a['segmentation']))
        assert {k: v for k, v in a.items() if k != 'segmentation'} == {
            k: v for k, v in b.items() if k != 'segmentation'
        }


def test_frames_of_a_video_have_a_file_each(tmp_path):
    images = [dict(id=i + 1, file_name=f'clip.mp4#{i}', width=10, height=10, frame=i) for i in range(3)]
    boxes = [dict(image_id=i + 1, category_id=1, bbox=[i, 0, 2, 2]) for i in range(3)]
    save_as(lambda: iter([(images, boxes)]), {}, [dict(id=1, name='a')], ['yolo'], tmp_path)
    texts = [(tmp_path / 'yolo' / 'labels' / f'clip_{i}.txt').read_text() for i in range(3)]
    assert [float(text.split()[1]) for text in texts] == [0.1, 0.2, 0.3]


def test_labelme_and_back(detector, shapes, tmp_path):
    """Masks and boxes come back as they were, after a person has moved them or not."""
    photos = tmp_path / 'photos'
    shutil.copytree(shapes / 'images/val', photos)
    predictor = Predictor(CASCADE, detector, threshold=0.1)
    run = PredictionRun(predictor, tmp_path / 'out', {}, pictures=False, save=('labelme',))
    run.run(find_sources([photos]))
    content = json.loads((tmp_path / 'out/predictions.json').read_text())
    folder = tmp_path / 'out/labelme'
    files = find_labelme(folder)
    assert len(files) == len(content['images'])
    again = read_labelme(folder, files)['data'].content
    names = [{c['id']: c['name'] for c in part['categories']} for part in (content, again)]

    def objects(part, names, image_id, size):
        found = [a for a in part['annotations'] if a['image_id'] == image_id and a.get('segmentation')]
        found = [a for a in found if coco_mask.area(as_rle(a['segmentation'], size))]
        masks = [coco_mask.decode(as_rle(a['segmentation'], size)).tobytes() for a in found]
        return sorted(zip([names[a['category_id']] for a in found], masks, strict=True))

    ids = {Path(image['file_name']).name: image['id'] for image in again['images']}
    for image in content['images']:
        size = image['height'], image['width']
        old = objects(content, names[0], image['id'], size)
        assert old and old == objects(again, names[1], ids[image['file_name']], size)
    boxes = [dict(image_id=1, category_id=1, score=0.5, bbox=[2.0, 3.0, 4.0, 5.0])]
    source, image = str(photos / 'a.jpg'), dict(id=1, file_name='a.jpg', width=9, height=9)
    entry = dict(source=source, stem='sub/a', images=[image], annotations=boxes)
    _write_labelme([entry, dict(entry, images=[dict(image, frame=0)])], [dict(id=1, name='cell')], tmp_path)
    one = json.loads((tmp_path / 'sub/a.json').read_text())
    assert one['imagePath'] == os.path.join('..', 'photos', 'a.jpg')
    assert one['shapes'][0]['points'] == [[2, 3], [6, 8]] and one['shapes'][0]['label'] == 'cell'


def as_rle(segmentation, size):
    if isinstance(segmentation, list):
        return coco_mask.merge(coco_mask.frPyObjects(segmentation, *size))
    return segmentation
