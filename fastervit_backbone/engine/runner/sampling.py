"""Training samples that a resumed run draws as the uninterrupted one would have.

The randomness of a sample follows from the seed, the iteration and its index, whichever worker loads it; unreadable images are replaced.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from mmengine.dataset import InfiniteSampler
from mmengine.registry import DATA_SAMPLERS, DATASETS
from torch.utils.data import BatchSampler, Dataset, Sampler

from ...datasets.images import open_image
from ...utils.errors import UserError

#: Images tried before an epoch is given up, in the place of one that cannot be read.
_TRIES = 20


def seed_all(*numbers: int, devices: bool = True) -> None:
    """Seed Python, numpy and torch (CUDA devices only with ``devices``) from whole numbers of 0 or more."""
    words = np.random.SeedSequence(numbers).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(words[1])
    (torch.manual_seed if devices else torch.default_generator.manual_seed)(int(words[2]))


class SeededIndex(int):
    """The index of a sample, and what its randomness follows from."""

    def __new__(cls, index: int, seed: tuple[int, ...]) -> 'SeededIndex':
        """An index that carries ``seed``."""
        draw = super().__new__(cls, index)
        draw.seed = seed
        return draw

    def __reduce__(self) -> tuple:
        """To worker processes."""
        return SeededIndex, (int(self), self.seed)


class ResumableBatchSampler(Sampler):
    """Batches of :class:`SeededIndex`, from any iteration on.

    Args:
        sampler: of indices.
        batch_size: as of torch's BatchSampler.
        batch_sampler: config of another batch sampler than torch's.
        drop_last: for torch's.
    """

    def __init__(
        self, sampler: Sampler, batch_size: int, batch_sampler: dict | None = None, drop_last: bool = False
    ) -> None:
        self.sampler, self.batch_size = sampler, batch_size
        if batch_sampler is None:
            self.batches = BatchSampler(sampler, batch_size, drop_last)
        else:
            self.batches = DATA_SAMPLERS.build(
                batch_sampler, default_args=dict(sampler=sampler, batch_size=batch_size)
            )
        self.endless = isinstance(sampler, InfiniteSampler)
        self._iteration = self._skip = self._seed = 0

    def begin(self, iteration: int, skip: int, seed: int) -> None:
        """What the next pass is: ``iteration`` of its first batch, batches of the sampler to leave out before it, the run's seed."""
        self._iteration, self._skip, self._seed = iteration, skip, seed

    def __iter__(self) -> Iterator[list[SeededIndex]]:
        """Lists of indices."""
        if self.endless and hasattr(self.sampler, 'skip'):
            self.sampler.skip(0)  # from its beginning, however often this is asked
        for number, batch in enumerate(islice(self.batches, self._skip, None), self._iteration):
            yield [SeededIndex(index, (self._seed, number, int(index))) for index in batch]

    def __len__(self) -> int:
        """Batches of a whole pass."""
        return len(self.batches)


class FaultTolerantDataset(Dataset):
    """A data set, or the config of one, whose samples are random by their :class:`SeededIndex`; unreadable images are replaced by others.

    Such a sample's ``data_samples`` has ``unreadable``, a list of (path, reason), in its metainfo.
    """

    def __init__(self, dataset: Dataset | Mapping) -> None:
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, Mapping) else dataset

    def __getattr__(self, name: str) -> object:
        """Everything else is the data set's."""
        if name == 'dataset':  # while it is unpickled
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __len__(self) -> int:
        """Of the data set."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict:
        """A sample."""
        if isinstance(index, SeededIndex):
            seed_all(*index.seed, devices=False)
        unreadable: list[tuple[str, str]] = []
        for _ in range(_TRIES):
            try:
                sample = self.dataset[int(index)]
            except Exception as error:  # of any reader; what is not a file's fault goes on
                problem = self._problem(int(index))
                if problem is None:
                    raise
                last = error
                unreadable.append(problem)
                index = np.random.randint(len(self))
                continue
            if unreadable:
                sample['data_samples'].set_metainfo(dict(unreadable=unreadable))
            return sample
        path, reason = unreadable[-1]
        raise UserError(
            f'{_TRIES} images in a row cannot be read, the last {path} ({reason}): look at them with tools/check_data.py'
        ) from last

    def _problem(self, index: int) -> tuple[str, str] | None:
        """(path, what is wrong) of the image or label map that cannot be read; None where both can."""
        info = self.dataset.get_data_info(index)
        for path in (info.get('img_path'), info.get('seg_map_path')):
            if path is None:
                continue
            try:
                if not Path(path).is_file():
                    return str(path), 'it is gone'
                with open_image(path) as image:
                    image.load()
            except UserError as error:
                return str(path), str(error.__cause__)
        return None


def unreadable_of(samples: Sequence) -> list[tuple[str, str]]:
    """(path, reason) of the images that others stand for in a batch's ``data_samples``."""
    return [problem for sample in samples for problem in sample.metainfo.get('unreadable', ())]
