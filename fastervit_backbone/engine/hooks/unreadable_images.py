"""Count the images that could not be read."""

from collections.abc import Mapping, Sequence

from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...utils.errors import UserError
from ..runner.sampling import unreadable_of


class UnreadableImageHook(Hook):
    """Says which images could not be read, and ends the run when there are more than ``limit``."""

    def __init__(self, limit: int) -> None:
        self.limit, self.seen = limit, set()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Mapping | None = None) -> None:
        """Look at the notes in the batch."""
        for path, reason in unreadable_of(samples_of(data_batch)):
            if path in self.seen:
                continue
            self.seen.add(path)
            if len(self.seen) > self.limit:
                raise UserError(
                    f'{len(self.seen)} images cannot be read, the last {path} ({reason}), and --max-unreadable is {self.limit}: '
                    'tools/check_data.py names them all'
                )
            runner.logger.warning(
                f'{path} cannot be read ({reason}): another image takes its place ({len(self.seen)} of {self.limit})'
            )


def samples_of(batch: object) -> Sequence:
    """The data samples in a batch, where it has them as mmdet and mmseg do."""
    samples = batch.get('data_samples', ()) if isinstance(batch, Mapping) else ()
    return [s for s in samples if hasattr(s, 'metainfo')] if isinstance(samples, Sequence) else ()
