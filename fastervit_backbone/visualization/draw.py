"""Draw predictions on images with supervision's annotators."""

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
import supervision as sv
from pycocotools import mask as coco_mask

from ..structures.prediction import INSTANCE_OFFSET, Categories, Prediction
from .palette import colorize_label_map, palette
from .panoptic import colorize_segments, edges_of
from .text import label_annotator, write

#: Limits of the longer side of a picture, pixels: small images are enlarged to fit text, large ones reduced.
LEAST, MOST = 640, 3000
#: Width of a letter, pixels, at text scale 1.
_LETTER = 18
#: Regions below this fraction of the picture are not named.
NAMED = 0.004


def picture_scale(size: tuple[int, int]) -> float:
    """Return the factor by which an image (H, W) is resized for its picture."""
    longer = max(size)
    return MOST / longer if longer > MOST else max(1.0, LEAST / longer)


def draw(
    pixels: np.ndarray, prediction: Prediction, categories: Categories, scores: bool = True
) -> np.ndarray:
    """Draw boxes, masks and class names, colored regions with class names, or the classes of the image.

    Args:
        pixels: the image (H, W, 3), uint8, BGR; not changed.
        prediction: objects or label map of the image.
        categories: classes of the model.
        scores: show scores next to the names.

    Returns:
        (H', W', 3), uint8, BGR, resized by :func:`picture_scale`.
    """
    scale = picture_scale(prediction.size)
    scene = enlarge(pixels, prediction.size)
    height, width = scene.shape[:2]
    if prediction.label_map is not None:
        return _draw_label_map(scene, prediction.label_map, categories.names)
    if prediction.panoptic is not None:
        return _draw_panoptic(scene, prediction.panoptic, categories.names)
    if prediction.classification:
        names = [categories.names[label] for label in prediction.labels]
        marks = [f'{score:.2f} ' if scores else '' for score in prediction.scores]
        return draw_lines(scene, list(map(str.__add__, marks, names)))
    objects = sv.Detections(
        prediction.boxes * scale, confidence=prediction.scores, class_id=prediction.labels.astype(int)
    )
    colors = _color_palette(categories.names)
    if prediction.masks is not None:
        _draw_masks(scene, prediction.masks, objects.class_id, colors, scale)
    thickness = max(1, sv.calculate_optimal_line_thickness((width, height)))
    scene = sv.BoxAnnotator(color=colors, thickness=thickness).annotate(scene, objects)
    texts = [categories.names[k] for k in prediction.labels]
    if scores:
        texts = [f'{text} {score:.2f}' for text, score in zip(texts, prediction.scores, strict=True)]
    return _draw_texts(scene, objects, texts, sv.Position.TOP_LEFT, categories.names)


def draw_lines(scene: np.ndarray, lines: Sequence[str]) -> np.ndarray:
    """Write lines of text below each other into the upper left corner of a picture (H, W, 3), uint8, BGR."""
    text_scale = max(0.5, sv.calculate_optimal_text_scale(scene.shape[1::-1]))
    for i, text in enumerate(lines):
        if not text.isascii():
            top = 8 + round(36 * text_scale * i)
            scene = write(scene, text, (8, top), round(26 * text_scale), (40, 40, 40))
            continue
        width = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, text_scale, 1)[0][0]
        scene = sv.draw_text(
            scene,
            text,
            sv.Point(x=8 + width / 2, y=8 + round(36 * text_scale * (i + 0.5))),
            text_color=sv.Color.WHITE,
            text_scale=text_scale,
            text_thickness=1,
            text_padding=round(6 * text_scale),
            background_color=sv.Color(40, 40, 40),
        )
    return scene


def enlarge(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a copy of an image of (H, W) = ``size``, resized by :func:`picture_scale`."""
    scale = picture_scale(size)
    height, width = (max(1, round(side * scale)) for side in size)
    if scale == 1:
        return pixels.copy()
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.resize(pixels, (width, height), interpolation=interpolation)


def _draw_masks(
    scene: np.ndarray, masks: Sequence[dict], labels: np.ndarray, colors: sv.ColorPalette, scale: float
) -> None:
    """Draw masks in place, one by one within their boxes: all of them decoded might not fit into memory."""
    annotator = sv.MaskAnnotator(color=colors, opacity=0.45)
    for code, label in zip(masks, labels, strict=True):
        x, y, w, h = (int(v) for v in coco_mask.toBbox(code))
        x1, y1, x2, y2 = (round(v * scale) for v in (x, y, x + w, y + h))
        if x2 <= x1 or y2 <= y1:
            continue
        mask = np.ascontiguousarray(coco_mask.decode(code)[y : y + h, x : x + w])
        mask = cv2.resize(mask, (x2 - x1, y2 - y1), interpolation=cv2.INTER_NEAREST).astype(bool)
        box = np.array([[0, 0, x2 - x1, y2 - y1]], np.float32)
        crop = np.ascontiguousarray(scene[y1:y2, x1:x2])
        scene[y1:y2, x1:x2] = annotator.annotate(crop, sv.Detections(box, mask[None], class_id=label[None]))


def _draw_label_map(scene: np.ndarray, label_map: np.ndarray, names: Sequence[str]) -> np.ndarray:
    label_map = cv2.resize(label_map, scene.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    colors = colorize_label_map(label_map, names)[..., ::-1]
    is_class = label_map < len(names)
    scene = _tint(scene, colors, is_class)
    return _name_regions(scene, ((label_map == k, int(k)) for k in np.unique(label_map[is_class])), names)


def _draw_panoptic(scene: np.ndarray, panoptic: np.ndarray, names: Sequence[str]) -> np.ndarray:
    panoptic = cv2.resize(panoptic, scene.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    scene = _tint(scene, colorize_segments(panoptic, names)[..., ::-1], panoptic >= 0)
    scene[edges_of(panoptic)] = 255
    values = np.unique(panoptic[panoptic >= 0])
    return _name_regions(scene, ((panoptic == v, int(v) % INSTANCE_OFFSET) for v in values), names)


def _tint(scene: np.ndarray, colors: np.ndarray, where: np.ndarray) -> np.ndarray:
    return np.where(where[..., None], (0.45 * scene + 0.55 * colors).astype(np.uint8), scene)


def _name_regions(
    scene: np.ndarray, regions: Iterable[tuple[np.ndarray, int]], names: Sequence[str]
) -> np.ndarray:
    """Write the name of its class into each region, a mask (H, W) and a class, that is large enough."""
    points, labels = [], []
    for mask, label in regions:
        point = _text_point(mask)
        if point is not None:
            points.append(point * 2)
            labels.append(label)
    if not points:
        return scene
    places = sv.Detections(np.array(points, np.float32), class_id=np.array(labels))
    return _draw_texts(scene, places, [names[k] for k in labels], sv.Position.CENTER, names)


def _text_point(mask: np.ndarray) -> tuple[int, int] | None:
    """Return the (x, y) deepest within the largest part of a region; None if that is too small for a name."""
    _, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    if stats[largest, cv2.CC_STAT_AREA] < NAMED * mask.size:
        return None
    padded = np.pad((parts == largest).astype(np.uint8), 1)  # the picture's border bounds the region
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, 3)[1:-1, 1:-1]
    y, x = np.unravel_index(depth.argmax(), depth.shape)
    return int(x), int(y)


def _draw_texts(
    scene: np.ndarray, objects: sv.Detections, texts: list[str], position: sv.Position, names: Sequence[str]
) -> np.ndarray:
    text_scale = sv.calculate_optimal_text_scale(scene.shape[1::-1])
    if len(objects) > 8 and position == sv.Position.TOP_LEFT:  # many small objects: no wider than most boxes
        widths = objects.xyxy[:, 2] - objects.xyxy[:, 0]
        text_scale = min(text_scale, float(np.median(widths)) / (_LETTER * max(map(len, texts))))
    text_scale = max(0.4, text_scale)
    is_dark = palette(names) @ np.array([0.299, 0.587, 0.114]) < 140
    annotator = label_annotator(
        texts,
        _color_palette(names),
        text_scale,
        text_color=sv.ColorPalette([sv.Color.WHITE if dark else sv.Color.BLACK for dark in is_dark]),
        text_padding=max(2, round(6 * text_scale)),
        text_position=position,
        smart_position=len(objects) <= 100,  # moves texts apart, in quadratic time
    )
    return annotator.annotate(scene, objects, labels=texts)


def _color_palette(names: Sequence[str]) -> sv.ColorPalette:
    return sv.ColorPalette([sv.Color(*map(int, color)) for color in palette(names)])
