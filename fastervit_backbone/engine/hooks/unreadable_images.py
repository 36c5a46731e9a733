"""Report and count images that cannot be read."""

from collections.abc import Mapping, Sequence

from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...utils.errors import UserError
from ..runner.sampling import unreadable_of


class UnreadableImageHook(Hook):
    """Report which images could not be read, and end the run if there are more than ``limit``.

    Args:
        limit: unreadable images that are replaced by others, at least 0.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.seen = limit, set()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Mapping | None = None) -> None:
        """Read what the data set noted in the batch."""
        for path, reason in unreadable_of(samples_of(data_batch)):
            if path in self.seen:
                continue
            self.seen.add(path)
            count = len(self.seen)
            if count > self.limit:
                raise UserError(
                    f'{count} images cannot be read, the last {path} ({reason}), and --max-unreadable is '
                    f'{self.limit}: fastervit check-data lists them all'
                )
            runner.logger.warning(
                f'{path} cannot be read ({reason}): replaced by another image ({count} of {self.limit})'
            )


def samples_of(batch: object) -> Sequence:
    """Return the data samples of a batch in mmdet's and mmseg's format; of another batch, none."""
    samples = batch.get('data_samples', ()) if isinstance(batch, Mapping) else ()
    return [s for s in samples if hasattr(s, 'metainfo')] if isinstance(samples, Sequence) else ()
