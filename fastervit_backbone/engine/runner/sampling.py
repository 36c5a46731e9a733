"""Training samples that a resumed run draws exactly as the uninterrupted run would have.

The randomness of a sample follows from the seed, the iteration and the index, whichever worker loads it.
Unreadable images are replaced.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from mmengine.dataset import InfiniteSampler
from mmengine.registry import DATA_SAMPLERS, DATASETS
from torch.utils.data import BatchSampler, Dataset, Sampler

from ...datasets.images import check_decodes
from ...utils.errors import UserError

#: Images tried in place of one that cannot be read, before the run ends.
_TRIES = 20


def seed_all(*numbers: int, devices: bool = True) -> None:
    """Seed Python, numpy and torch (CUDA devices only with ``devices``) from integers of at least 0."""
    seeds = np.random.SeedSequence(numbers).generate_state(3)
    random.seed(int(seeds[0]))
    np.random.seed(seeds[1])
    (torch.manual_seed if devices else torch.default_generator.manual_seed)(int(seeds[2]))


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Restore the state of Python's, numpy's and torch's random numbers (of the CPU) after the block."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


class SeededIndex(int):
    """The index of a sample, with the seed of its randomness."""

    def __new__(cls, index: int, seed: tuple[int, ...]) -> 'SeededIndex':
        """Create an index with a ``seed``."""
        instance = super().__new__(cls, index)
        instance.seed = seed
        return instance

    def __reduce__(self) -> tuple:
        """Pickle the seed too, for worker processes."""
        return SeededIndex, (int(self), self.seed)


class ResumableBatchSampler(Sampler):
    """Batches of :class:`SeededIndex`, from any iteration on.

    Args:
        sampler: of indices.
        batch_size: of torch's BatchSampler.
        batch_sampler: config of a batch sampler to use instead of torch's.
        drop_last: of torch's BatchSampler.
    """

    def __init__(
        self, sampler: Sampler, batch_size: int, batch_sampler: dict | None = None, drop_last: bool = False
    ) -> None:
        self.sampler, self.batch_size = sampler, batch_size
        if batch_sampler is None:
            self.batches = BatchSampler(sampler, batch_size, drop_last)
        else:
            defaults = dict(sampler=sampler, batch_size=batch_size)
            self.batches = DATA_SAMPLERS.build(batch_sampler, default_args=defaults)
        self.endless = isinstance(sampler, InfiniteSampler)
        self._iteration = self._skip = self._seed = 0

    def start_at(self, iteration: int, skip: int, seed: int) -> None:
        """Prepare the next pass.

        Args:
            iteration: of its first batch.
            skip: batches of the sampler to leave out before it.
            seed: of the run.
        """
        self._iteration, self._skip, self._seed = iteration, skip, seed

    def __iter__(self) -> Iterator[list[SeededIndex]]:
        """Yield the indices of each batch."""
        if self.endless and hasattr(self.sampler, 'skip'):
            self.sampler.skip(0)  # restart it
        for number, batch in enumerate(islice(self.batches, self._skip, None), self._iteration):
            yield [SeededIndex(index, (self._seed, number, int(index))) for index in batch]

    def __len__(self) -> int:
        """Return the batches of a complete pass."""
        return len(self.batches)


class FaultTolerantDataset(Dataset):
    """A data set that seeds each sample by its :class:`SeededIndex` and replaces unreadable images by others.

    Everything else is the wrapped data set's: what a hook reads, and what it sets, such as another pipeline.
    The ``data_samples`` of a replaced one have ``unreadable``, a list of (path, reason), in their metainfo.

    Args:
        dataset: or its config.
    """

    def __init__(self, dataset: Dataset | Mapping) -> None:
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, Mapping) else dataset

    def __getattr__(self, name: str) -> object:
        """Forward to the wrapped data set."""
        if name == 'dataset':  # during unpickling
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __setattr__(self, name: str, value: object) -> None:
        """Set an attribute of the wrapped data set."""
        if name == 'dataset' and 'dataset' not in self.__dict__:
            super().__setattr__(name, value)
        else:
            setattr(self.dataset, name, value)

    def __len__(self) -> int:
        """Return the length of the wrapped data set."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict:
        """Load a sample, or another one if its image cannot be read."""
        if isinstance(index, SeededIndex):
            seed_all(*index.seed, devices=False)
        unreadable: list[tuple[str, str]] = []
        for _ in range(_TRIES):
            try:
                sample = self.dataset[int(index)]
            except Exception as error:  # readers raise anything; re-raised unless the file is at fault
                problem = self._unreadable_file(int(index))
                if problem is None:
                    raise
                last_error = error
                unreadable.append(problem)
                index = np.random.randint(len(self))
                continue
            if unreadable:
                sample['data_samples'].set_metainfo(dict(unreadable=unreadable))
            return sample
        path, reason = unreadable[-1]
        raise UserError(
            f'{_TRIES} images in a row cannot be read, the last {path} ({reason}): check the data with '
            'fastervit check-data'
        ) from last_error

    def _unreadable_file(self, index: int) -> tuple[str, str] | None:
        """Return (path, reason) of an image or label map that cannot be read; None if both can."""
        info = self.dataset.get_data_info(index)
        for path in filter(None, (info.get('img_path'), info.get('seg_map_path'))):
            try:
                if not Path(path).is_file():
                    return str(path), 'it does not exist'
                check_decodes(path)
            except UserError as error:
                return str(path), str(error.__cause__ or error)
        return None


def unreadable_of(samples: Sequence) -> list[tuple[str, str]]:
    """Return (path, reason) of the images that were replaced in a batch's ``data_samples``."""
    return [problem for sample in samples for problem in sample.metainfo.get('unreadable', ())]
