"""Averages of a binary segmenter over scales and flips."""

from mmseg.models import SegTTAModel
from mmseg.utils import SampleList
from torch import Tensor


class BinaryTTAModel(SegTTAModel):
    """mmseg's SegTTAModel for segmenters of one output channel.

    mmseg hands on their probabilities in place of logits, and SegTTAModel applies the sigmoid again.
    """

    def merge_preds(self, data_samples_list: list[SampleList]) -> SampleList:
        """Average the probabilities of the views of each image."""
        predictions = []
        for views in data_samples_list:
            mean: Tensor = sum(view.seg_logits.data for view in views) / len(views)  # type: ignore[assignment]
            sample = views[0]
            sample.seg_logits.data = mean
            sample.pred_sem_seg.data = (mean > self.module.decode_head.threshold).to(sample.pred_sem_seg.data)
            predictions.append(sample)
        return predictions
