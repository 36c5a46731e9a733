"""Pictures of predictions, by supervision's annotators."""

from collections.abc import Sequence

import cv2
import numpy as np
import supervision as sv
from pycocotools import mask as coco_mask

from ..structures.prediction import Categories, Prediction

#: Okabe and Ito's colours (Color Universal Design, 2008) without black: colour-blind people tell them apart.
_BASE = ('#E69F00', '#56B4E9', '#009E73', '#F0E442', '#0072B2', '#D55E00', '#CC79A7')
_BACKGROUND = (110, 110, 110)
#: Longer side of a picture, pixels: smaller images are enlarged so that words fit, larger ones reduced.
LEAST, MOST = 640, 3000
#: Width of a letter, pixels, at text scale 1.
_LETTER = 18
#: Part of a picture below which a region gets no name.
NAMED = 0.004


def palette(names: Sequence[str]) -> np.ndarray:
    """(number of names, 3), uint8, RGB: seven colours, then the same darker, lighter, and so on; "background" is grey."""
    base = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in _BASE], float)
    shades = np.concatenate(
        (base, base * 0.55, base + (255 - base) * 0.6, base * 0.78, base + (255 - base) * 0.35)
    )
    colours, used = [], 0
    for name in names:
        grey = name.lower() == 'background'
        colours.append(_BACKGROUND if grey else shades[used % len(shades)])
        used += not grey
    return np.array(colours).round().astype(np.uint8)


def colour_map(label_map: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """(H, W) indices of classes -> (H, W, 3), uint8, RGB; what is no class is black."""
    colours = np.concatenate([palette(names), np.zeros((1, 3), np.uint8)])
    return colours[np.minimum(label_map, len(names))]


def picture_scale(size: tuple[int, int]) -> float:
    """By how much an image (H, W) is enlarged or reduced for its picture."""
    longer = max(size)
    return MOST / longer if longer > MOST else max(1.0, LEAST / longer)


def draw(
    pixels: np.ndarray, prediction: Prediction, categories: Categories, scores: bool = True
) -> np.ndarray:
    """Boxes, masks and names, or coloured regions with names.

    Args:
        pixels: the image (H, W, 3), uint8, BGR; not changed.
        prediction: of it.
        categories: names of its classes.
        scores: say them beside the names.

    Returns:
        (H', W', 3), uint8, BGR; size by :func:`picture_scale`.
    """
    H, W = prediction.size
    scale = picture_scale((H, W))
    size = (max(1, round(W * scale)), max(1, round(H * scale)))
    scene = (
        cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
        if scale != 1
        else pixels.copy()
    )
    if prediction.label_map is not None:
        return _regions(scene, prediction.label_map, categories)
    found = sv.Detections(
        prediction.boxes * scale, confidence=prediction.scores, class_id=prediction.labels.astype(int)
    )
    colours = _sv_palette(categories.names)
    if prediction.masks is not None:
        painter = sv.MaskAnnotator(color=colours, opacity=0.45)
        for i, code in enumerate(
            prediction.masks
        ):  # one at a time: together they can be larger than the memory
            x, y, w, h = (int(v) for v in coco_mask.toBbox(code))
            (x1, x2), (y1, y2) = ([round(v * scale) for v in side] for side in ((x, x + w), (y, y + h)))
            if x2 > x1 and y2 > y1:
                mask = np.ascontiguousarray(coco_mask.decode(code)[y : y + h, x : x + w])
                mask = cv2.resize(mask, (x2 - x1, y2 - y1), interpolation=cv2.INTER_NEAREST).astype(bool)
                one = sv.Detections(
                    np.array([[0, 0, x2 - x1, y2 - y1]], np.float32), mask[None], class_id=found.class_id[[i]]
                )
                scene[y1:y2, x1:x2] = painter.annotate(np.ascontiguousarray(scene[y1:y2, x1:x2]), one)
    thickness = max(1, sv.calculate_optimal_line_thickness((size[0], size[1])))
    scene = sv.BoxAnnotator(color=colours, thickness=thickness).annotate(scene, found)
    words = [
        f'{categories.names[k]} {score:.2f}' if scores else categories.names[k]
        for k, score in zip(prediction.labels, prediction.scores, strict=True)
    ]
    return _names(scene, found, words, sv.Position.TOP_LEFT, categories.names)


def _regions(scene: np.ndarray, label_map: np.ndarray, categories: Categories) -> np.ndarray:
    count = len(categories.names)
    label_map = cv2.resize(label_map, scene.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    colour = colour_map(label_map, categories.names)[..., ::-1]
    shown = (label_map < count)[..., None]
    scene = np.where(shown, (0.45 * scene + 0.55 * colour).astype(np.uint8), scene)
    boxes, labels = [], []
    for label in np.unique(label_map[label_map < count]):
        y, x = _inside(label_map == label)
        if y is not None:
            boxes.append([x, y, x, y])
            labels.append(int(label))
    if not boxes:
        return scene
    found = sv.Detections(np.array(boxes, np.float32), class_id=np.array(labels))
    return _names(scene, found, [categories.names[k] for k in labels], sv.Position.CENTER, categories.names)


def _inside(mask: np.ndarray) -> tuple[int, int] | tuple[None, None]:
    """The point of a region's largest part that lies deepest within it; None where the part is too small for a name."""
    _, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    if stats[largest, cv2.CC_STAT_AREA] < NAMED * mask.size:
        return None, None
    depth = cv2.distanceTransform(np.pad((parts == largest).astype(np.uint8), 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
    y, x = np.unravel_index(depth.argmax(), depth.shape)
    return int(y), int(x)


def _names(
    scene: np.ndarray, found: sv.Detections, words: list[str], position: sv.Position, names: Sequence[str]
) -> np.ndarray:
    text_scale = sv.calculate_optimal_text_scale(scene.shape[1::-1])
    widths = found.xyxy[:, 2] - found.xyxy[:, 0]
    if (
        len(found) > 8 and position == sv.Position.TOP_LEFT
    ):  # among many small objects, no wider than most of them
        text_scale = min(text_scale, float(np.median(widths)) / (_LETTER * max(map(len, words))))
    text_scale = max(0.4, text_scale)
    dark = palette(names) @ np.array([0.299, 0.587, 0.114]) < 140
    annotator = sv.LabelAnnotator(
        color=_sv_palette(names),
        text_color=sv.ColorPalette([sv.Color.WHITE if d else sv.Color.BLACK for d in dark]),
        text_scale=text_scale,
        text_thickness=max(1, round(2 * text_scale)),
        text_padding=max(2, round(6 * text_scale)),
        text_position=position,
        smart_position=len(found)
        <= 100,  # moves names apart, in time that grows with the square of their number
    )
    return annotator.annotate(scene, found, labels=words)


def _sv_palette(names: Sequence[str]) -> sv.ColorPalette:
    return sv.ColorPalette([sv.Color(*map(int, colour)) for colour in palette(names)])
