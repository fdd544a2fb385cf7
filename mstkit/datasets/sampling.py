"""The order of samples, and the seeding of their random augmentation.

Every random draw for a sample depends on (seed, epoch, index, stream) alone, not on the worker, the rank or earlier
draws. A resumed run, or one with another number of processes, therefore has bit-identical views without any generator
state in the checkpoint.
"""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Iterator, Sized
from typing import Any

import numpy as np
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from mstkit.errors import UsageError
from mstkit.registry import DATA_SAMPLERS

_WORD = (1 << 64) - 1
NO_SAMPLE = _WORD  # the index for draws of a whole epoch (its order); no data set is that long


# The state of a Philox generator of which no number has been drawn, without its key and counter.
_FRESH = np.random.Philox(key=0).state


class _Kept(threading.local):
    """A generator that is set to one key after the other, of each thread its own."""

    def __init__(self) -> None:
        self.generator = np.random.Generator(np.random.Philox(key=0))


_kept = _Kept()


@functools.lru_cache(maxsize=256)
def _stream_word(stream: str | int) -> int:
    """A 64-bit word for a stream; words of numbers and of names are disjoint."""
    if isinstance(stream, int):
        return stream & (_WORD >> 1)
    digest = hashlib.blake2b(stream.encode(), digest_size=8).digest()
    return int.from_bytes(digest, 'little') | (1 << 63)


def bit_generator(seed: int, epoch: int, index: int, stream: str | int) -> np.random.Philox:
    """The bit generator for (seed, epoch, index, stream); ``index`` is :data:`NO_SAMPLE` for draws without a sample."""
    # Philox is counter-based: its key and high counter words identify the stream, so that streams cannot overlap, and
    # numpy guarantees the same bits on every platform.
    return np.random.Philox(key=_key(seed, index), counter=_counter(epoch, stream))


def _key(seed: int, index: int) -> np.ndarray:
    return np.array([seed & _WORD, index & _WORD], dtype=np.uint64)


def _counter(epoch: int, stream: str | int) -> np.ndarray:
    return np.array([0, 0, _stream_word(stream), epoch & _WORD], dtype=np.uint64)


def uniform(generator: np.random.Generator, low: float, high: float) -> float:
    """``generator.uniform(low, high)`` in half of its time, which goes into checks of the bounds."""
    return low + (high - low) * generator.random()


class SampleKey(int):
    """A sample index (an ``int``) that carries the epoch and the seed for the sample's random draws.

    Wrappers such as mmengine's ``ConcatDataset`` and ``RepeatDataset`` compute with the index (``-``, ``%``): the
    result is a key again, with the random draws of the original index.

    Args:
        index: index in the data set.
        epoch: the epoch in which it is used.
        seed: the run's seed.
        origin: the index that seeds the random draws; None for ``index``.

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
        """Returns a key unchanged, and a plain index as a key with epoch 0 and seed 0."""
        return index if isinstance(index, SampleKey) else cls(index)

    def generator(self, stream: str | int = 0) -> np.random.Generator:
        """A new generator for this sample and ``stream``; equal keys and streams give equal numbers in any process."""
        return np.random.Generator(bit_generator(self.seed, self.epoch, self.origin, stream))

    def kept_generator(self, stream: str | int) -> np.random.Generator:
        """Like :meth:`generator`, in a fifth of the time: one generator per thread, which the next call starts anew."""
        generator = _kept.generator
        words = dict(counter=_counter(self.epoch, stream), key=_key(self.seed, self.origin))
        generator.bit_generator.state = {**_FRESH, 'state': words}
        return generator

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
    """Yields the :class:`SampleKey` of every sample once per epoch, in an order that depends on (seed, epoch) alone.

    Rank r of W takes every W-th sample, starting at r. With ``drop_last=True`` in the data loader, the i-th batches of
    all ranks together are exactly the i-th batch of one process with a W times larger batch.

    Args:
        dataset: the data set; only its length is used.
        seed: the run's seed (set by mmengine's Runner). ``None`` draws one that all ranks share; such a run is not
            reproducible.
        shuffle: whether to shuffle in each epoch; False keeps the order of the data set.
        round_up: how all ranks get the same number of samples: ``False`` (training) omits the last ``len % W`` samples
            of the epoch's order; ``True`` (evaluation) repeats the first samples at the end.

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
            start: number of this rank's samples to skip, which were used before an interruption. Applies until the
                next call; the length remains that of the whole epoch.
        """
        if not 0 <= start <= self.num_samples:
            raise UsageError(
                f'cannot start epoch {epoch} at sample {start}: each process has {self.num_samples} per epoch. Resume '
                'with the data set, the batch size and the number of processes of the interrupted run.'
            )
        self.epoch = int(epoch)
        self.start = int(start)

    def set_loader(self, batch_size: int, num_workers: int) -> None:
        """Told, once the loader is built, how it deals out what comes; of no matter for this order."""

    def layout(self) -> dict[str, int] | None:
        """What the order depends on besides seed, epoch and data set; None where that is nothing."""
        return None

    def order(self) -> np.ndarray:
        """The epoch's order over all ranks, (total,) int64."""
        if not self.shuffle:
            return np.arange(self.total)
        # Not permutation(): numpy guarantees only the raw words to be the same in all versions.
        words = bit_generator(self.seed, self.epoch, NO_SAMPLE, 'order').random_raw(self.total)
        return np.argsort(words, kind='stable')

    def __iter__(self) -> Iterator[SampleKey]:
        positions = self.rank + self.world_size * np.arange(self.start, self.num_samples)
        for index in self.order()[positions % self.total]:
            yield SampleKey(int(index), self.epoch, self.seed)

    def __len__(self) -> int:
        """Samples of this rank in a whole epoch."""
        return self.num_samples
