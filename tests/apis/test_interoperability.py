"""The toolkits' own inference gives what our Predictor gives, on the same config and checkpoint."""

import numpy as np
import pytest
from PIL import Image

from fastervit_backbone.inference import Predictor
from tests.helpers import CASCADE, UPERNET

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
