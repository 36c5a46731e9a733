"""The metrics that people look at first."""

from collections.abc import Mapping

#: mmengine's name -> (short name, divisor that scales the value to 0..1).
MAIN_METRICS = {
    'coco/bbox_mAP': ('box AP', 1),
    'coco/segm_mAP': ('mask AP', 1),
    'coco_panoptic/PQ': ('PQ', 100),
    'coco_panoptic/PQ_th': ('PQ of things', 100),
    'coco_panoptic/PQ_st': ('PQ of stuff', 100),
    'pascal_voc/mAP': ('mAP', 1),
    'mIoU': ('mIoU', 100),
    'aAcc': ('pixel accuracy', 100),
    'accuracy/top1': ('top-1', 100),
    'accuracy/top5': ('top-5', 100),
}


def describe_metrics(metrics: Mapping[str, float]) -> str:
    """Format the main ones of a run's metrics, ``box AP 0.807, mask AP 0.765``; '' if it has none."""
    return ', '.join(
        f'{name} {metrics[key] / divisor:.3f}'
        for key, (name, divisor) in MAIN_METRICS.items()
        if key in metrics
    )
