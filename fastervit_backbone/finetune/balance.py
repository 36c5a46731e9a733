"""Repeat images of rare classes (Gupta et al., arXiv 1908.03195, repeat factor sampling)."""

import math
from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np

#: Classes in less than this fraction of the median class's images are rare. mmengine rounds factors up:
#: with 0.8 ** 2 those up to 1.25 become 1, up to 2.5 become 2, and so on.
_RARE = 0.64


@dataclass(frozen=True)
class Balance:
    """How often images are repeated.

    Attributes:
        threshold: ``oversample_thr`` of mmengine's ClassBalancedDataset: the fraction of the images below
            which a class is rare.
        factors: rare class -> how often its images are shown in an epoch.
        num_images: of an epoch.
    """

    threshold: float
    factors: dict[str, int]
    num_images: int


def balance(image_classes: Sequence[Set[int]], classes: Sequence[str]) -> Balance | None:
    """Choose which classes are rare; None if none is.

    Args:
        image_classes: the classes in each training image.
        classes: names.
    """
    total = len(image_classes)
    numbers = Counter(label for labels in image_classes for label in labels)
    if not numbers:
        return None
    threshold = _RARE * float(np.median(list(numbers.values()))) / total
    factors = {
        label: math.ceil(max(1.0, math.sqrt(threshold / (n / total)))) for label, n in sorted(numbers.items())
    }
    rare = {classes[label]: factor for label, factor in factors.items() if factor > 1}
    shown = sum(max((factors[label] for label in labels), default=1) for labels in image_classes)
    return Balance(threshold, rare, shown) if rare else None
