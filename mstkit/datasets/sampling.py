"""Which samples come when, and what their randomness is keyed by.

Every random choice about a sample follows from (seed, epoch, index, stream) alone: not from the worker or the rank that
makes it, nor from what was drawn before. A run that is resumed, or run on another number of processes, therefore sees
bit-identical views without any generator state in the checkpoint.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Sized
from typing import Any

import numpy as np
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from mstkit.errors import UsageError
from mstkit.registry import DATA_SAMPLERS

_WORD = (1 << 64) - 1
NO_SAMPLE = _WORD  # the index under which an epoch's order is drawn; no data set is that long


@functools.lru_cache(maxsize=256)
def _stream_word(stream: str | int) -> int:
    """A 64-bit word per stream; those of numbers and of names never meet."""
    if isinstance(stream, int):
        return stream & (_WORD >> 1)
    digest = hashlib.blake2b(stream.encode(), digest_size=8).digest()
    return int.from_bytes(digest, 'little') | (1 << 63)


def bit_generator(seed: int, epoch: int, index: int, stream: str | int) -> np.random.Philox:
    """The generator of a stream of random words; what has no sample has the index :data:`NO_SAMPLE`."""
    # Philox is a counter-based generator: key and the high counter words name the stream outright, so that two
    # streams cannot overlap, and numpy promises the same bits on every platform.
    key = np.array([seed & _WORD, index & _WORD], dtype=np.uint64)
    counter = np.array([0, 0, _stream_word(stream), epoch & _WORD], dtype=np.uint64)
    return np.random.Philox(key=key, counter=counter)


class SampleKey(int):
    """The index of a sample that also knows the epoch and the seed; an ``int`` wherever one is expected.

    Wrappers such as mmengine's ``ConcatDataset`` and ``RepeatDataset`` compute with the index (``-``, ``%``): the
    result is a key again, with the randomness of the original one.

    Args:
        index: position in the data set.
        epoch: the epoch in which it was drawn.
        seed: the run's seed.
        origin: the index that the randomness is keyed by; ``index`` where it is not given.

    Attributes:
        epoch, seed, origin: as above.
    """

    epoch: int
    seed: int
    origin: int

    def __new__(cls, index: int, epoch: int = 0, seed: int = 0, origin: int | None = None) -> SampleKey:
        key = super().__new__(cls, index)
        key.epoch = int(epoch)
        key.seed = int(seed)
        key.origin = int(index if origin is None else origin)
        return key

    @classmethod
    def of(cls, index: int) -> SampleKey:
        """The key itself, or a plain number as a key of epoch 0 and seed 0."""
        return index if isinstance(index, SampleKey) else cls(index)

    def generator(self, stream: str | int = 0) -> np.random.Generator:
        """A fresh generator of this sample's ``stream``; equal keys and streams give equal numbers anywhere."""
        return np.random.Generator(bit_generator(self.seed, self.epoch, self.origin, stream))

    def __sub__(self, other: int) -> SampleKey:
        return SampleKey(int(self) - int(other), self.epoch, self.seed, self.origin)

    def __mod__(self, other: int) -> SampleKey:
        return SampleKey(int(self) % int(other), self.epoch, self.seed, self.origin)

    def __reduce__(self) -> tuple[Any, ...]:
        return SampleKey, (int(self), self.epoch, self.seed, self.origin)

    def __copy__(self) -> SampleKey:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> SampleKey:
        return self

    def __repr__(self) -> str:
        return f'SampleKey({int(self)}, epoch={self.epoch}, seed={self.seed})'


@DATA_SAMPLERS.register_module()
class EpochSampler(Sampler[SampleKey]):
    """Yields every sample once per epoch, as keys, in an order that follows from (seed, epoch) alone.

    Rank r of W takes every W-th sample, from r on. With ``drop_last=True`` in the data loader, the i-th batches of all
    ranks together are then exactly the i-th batch of one process with a W times larger batch.

    Args:
        dataset: what is sampled; only its length is used.
        seed: the run's seed (mmengine's Runner gives it). ``None`` draws one that all ranks share; such a run cannot
            be repeated.
        shuffle: a new order in each epoch, or the order of the data set.
        round_up: every rank gets the same number of samples. ``False`` (training): the last ``len % W`` samples of
            the epoch's order are left out. ``True`` (evaluation): the first ones are repeated to fill the last round.

    Raises:
        UsageError: the data set has fewer samples than there are ranks.
    """

    def __init__(self, dataset: Sized, seed: int | None = 0, shuffle: bool = True, round_up: bool = False) -> None:
        self.rank, self.world_size = get_dist_info()
        self.total = len(dataset)
        if self.total < self.world_size:
            raise UsageError(
                f'the data set holds {self.total} images for {self.world_size} processes: '
                'give it at least one image per process, or start fewer processes.'
            )
        self.seed = int(sync_random_seed() if seed is None else seed)
        self.shuffle = shuffle
        self.round_up = round_up
        self.num_samples = -(-self.total // self.world_size) if round_up else self.total // self.world_size
        self.epoch = 0
        self.start = 0

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Chooses the epoch of the next iteration over the sampler.

        Args:
            epoch: from 0.
            start: how many of this rank's samples were consumed before an interruption; they are skipped. It holds
                until the next call; the length stays that of the whole epoch.
        """
        if not 0 <= start <= self.num_samples:
            raise UsageError(
                f'cannot start epoch {epoch} at sample {start}: each process has {self.num_samples} per epoch. Resume '
                'with the data set, the batch size and the number of processes of the interrupted run.'
            )
        self.epoch = int(epoch)
        self.start = int(start)

    def order(self) -> np.ndarray:
        """The epoch's order over all ranks, (total,) int64."""
        if not self.shuffle:
            return np.arange(self.total)
        # Sorting raw words rather than calling permutation(): numpy keeps the words stable between versions only.
        words = bit_generator(self.seed, self.epoch, NO_SAMPLE, 'order').random_raw(self.total)
        return np.argsort(words, kind='stable')

    def __iter__(self) -> Iterator[SampleKey]:
        positions = self.rank + self.world_size * np.arange(self.start, self.num_samples)
        for index in self.order()[positions % self.total]:
            yield SampleKey(int(index), self.epoch, self.seed)

    def __len__(self) -> int:
        """Samples of this rank in a whole epoch."""
        return self.num_samples
