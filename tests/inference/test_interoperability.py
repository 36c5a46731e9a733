"""The toolkits' own inference gives what our Predictor gives, on the same config and checkpoint."""

import numpy as np
import pytest
from PIL import Image

from fastervit_backbone.inference import Predictor
from tests.helpers import CASCADE, ROOT, UPERNET

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')


@pytest.fixture
def image(shapes, monkeypatch):
    monkeypatch.setenv('SHAPES_ROOT', str(shapes))
    return str(next((shapes / 'images' / 'val').iterdir()))


@pytest.fixture
def prediction(image, detector):
    (found,) = Predictor(CASCADE, detector, threshold=0.0)([image])
    assert len(found.scores) > 5
    return found


def check_instances(instances, prediction):
    """Compare mmdet's instances, best first, with ours."""
    order, ours = (
        np.argsort(-instances.scores.numpy(), kind='stable'),
        np.argsort(-prediction.scores, kind='stable'),
    )
    assert np.allclose(instances.scores.numpy()[order], prediction.scores[ours], atol=1e-6)
    assert np.allclose(instances.bboxes.numpy()[order], prediction.boxes[ours], atol=1e-3)
    assert (instances.labels.numpy()[order] == prediction.labels[ours]).all()


def test_init_detector(image, detector, prediction):
    from mmdet.apis import inference_detector, init_detector

    model = init_detector(str(CASCADE), str(detector), device='cpu')
    check_instances(inference_detector(model, image).pred_instances, prediction)


def test_det_inferencer(image, detector, prediction):
    from mmdet.apis import DetInferencer

    inferencer = DetInferencer(str(CASCADE), str(detector), device='cpu', show_progress=False)
    result = inferencer(image, return_datasamples=True)['predictions'][0]
    check_instances(result.pred_instances, prediction)


def test_mmseg_inferencer(image, segmenter):
    from mmseg.apis import MMSegInferencer

    (found,) = Predictor(UPERNET, segmenter)([image])
    inferencer = MMSegInferencer(str(UPERNET), str(segmenter), device='cpu')
    label_map = inferencer(image)['predictions']
    assert label_map.shape == found.label_map.shape and (label_map == found.label_map).mean() > 0.999


def test_mmseg_init_model(image, segmenter):
    from mmseg.apis import inference_model, init_model

    (found,) = Predictor(UPERNET, segmenter)([image])
    model = init_model(str(UPERNET), str(segmenter), device='cpu')
    label_map = inference_model(model, image).pred_sem_seg.data[0].numpy()
    assert (label_map == found.label_map).mean() > 0.999


def test_sahi(image, detector, prediction):
    sahi = pytest.importorskip('sahi')
    model = sahi.AutoDetectionModel.from_pretrained(
        'mmdet', model_path=str(detector), config_path=str(CASCADE), confidence_threshold=0.0, device='cpu'
    )
    pixels = np.asarray(Image.open(image).convert('RGB'))
    model.perform_inference(pixels)
    model.convert_original_predictions(shift_amount=[[0, 0]], full_shape=[list(pixels.shape[:2])])
    scores = sorted((o.score.value for o in model.object_prediction_list), reverse=True)
    ours = sorted(prediction.scores.tolist(), reverse=True)
    assert len(scores) > 3 and np.allclose(scores[:4], ours[:4], atol=1e-4)


def test_mmengine_finds_the_configs_by_name(tmp_path):
    """As a base, in get_config and in the list of models; DetInferencer takes the config."""
    from mmdet.apis import DetInferencer
    from mmengine.config import Config
    from mmengine.hub import get_config
    from mmengine.infer import BaseInferencer

    name = 'fastervit_backbone::fastervit/mask-rcnn_fastervit0_1x.py'
    own = tmp_path / 'own.py'
    own.write_text(f"_base_ = '{name}'\nmodel = dict(backbone=dict(arch='nano'))\n")
    assert Config.fromfile(own).model.backbone.arch == 'nano'
    config = get_config(name)
    assert config.model == Config.fromfile(ROOT / 'configs' / 'mask-rcnn_fastervit0_1x.py').model
    names = BaseInferencer.list_models('fastervit_backbone', 'mask-rcnn')
    assert {'mask-rcnn_fastervit-0_fpn_1x_coco', 'mask-rcnn_fastervit0_1x'} < set(names)
    inferencer = DetInferencer(config, device='cpu', show_progress=False)
    assert inferencer.model.backbone.spec.dim == 64
