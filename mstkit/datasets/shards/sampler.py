"""A sampler for tar shards: sequential within shards, with different shards for each process and worker."""

from __future__ import annotations

from collections.abc import Iterator, Sized

import numpy as np
from mmengine.logging import print_log

from mstkit.datasets.sampling import NO_SAMPLE, EpochSampler, SampleKey, bit_generator
from mstkit.datasets.shards.dataset import ShardDataset
from mstkit.datasets.shards.locations import local_path
from mstkit.errors import UsageError
from mstkit.registry import DATA_SAMPLERS
from mstkit.utils.checks import check_count


@DATA_SAMPLERS.register_module()
class ShardSampler(EpochSampler):
    """Yields the :class:`SampleKey` of every sample of a :class:`ShardDataset` once per epoch, nearly sequentially.

    The shards are permuted in each epoch and concatenated. The samples are split into equal parts for the processes,
    and each process's part into ``streams``; consecutive batches come from the streams in turn. Within a stream every
    sample is delayed by up to ``shuffle_buffer`` samples, as by a shuffle buffer of that size. The order depends on
    (seed, epoch) and these numbers alone, so a run resumed within an epoch continues with the next sample; the views
    of a sample are the same as with any other sampler.

    With as many streams as workers, each worker reads its own shards sequentially; shards at the border of two parts
    are read by both workers. The last ``samples % processes`` samples are omitted, different ones in each epoch.

    Shards whose samples are sorted by class need a buffer of several shards; ``tools/make_shards.py`` shuffles samples
    when writing.

    Args:
        dataset: a :class:`ShardDataset`.
        seed: the run's seed (set by mmengine's Runner).
        shuffle: False keeps the order of shards and samples.
        shuffle_buffer: in samples; for remote shards every worker may hold as many in memory.
        streams: number of parts that a process reads in parallel; None for the number of the loader's workers.

    Raises:
        UsageError: another kind of data set, fewer samples than processes, or a number out of range.
    """

    def __init__(
        self,
        dataset: Sized,
        seed: int | None = 0,
        shuffle: bool = True,
        shuffle_buffer: int = 2000,
        streams: int | None = None,
    ) -> None:
        if not isinstance(dataset, ShardDataset):
            raise UsageError(
                f'ShardSampler reads shards, and the data set is {type(dataset).__name__}: use EpochSampler, or '
                'ShardDataset without a wrapper.'
            )
        super().__init__(dataset, seed, shuffle)
        self.dataset = dataset
        self.shuffle_buffer = check_count('ShardSampler.shuffle_buffer', shuffle_buffer, 0)
        self._chosen_streams = None if streams is None else check_count('ShardSampler.streams', streams, 1)
        self.set_loader(1, 0, quiet=True)

    def set_loader(self, batch_size: int, num_workers: int, quiet: bool = False) -> None:
        """Sets the data loader's parameters, on which the order depends; called when the loader is built.

        Args:
            batch_size: samples per batch of one process.
            num_workers: workers of one process, which get batches in turn.
            quiet: do not log the number of omitted samples.
        """
        workers = max(1, num_workers)
        self.batch_size = batch_size
        self.streams = self._chosen_streams or workers
        per_worker = self.streams // workers if self.streams % workers == 0 else self.streams
        self.dataset.plan_reading(self.shuffle_buffer if self.shuffle else 0, per_worker)
        if quiet:
            return
        left = self.total - self.num_samples * self.world_size
        print_log(
            f'ShardSampler: {len(self.dataset.index.urls)} shards in {self.streams} streams on each of '
            f'{self.world_size} processes; {left} of {self.total} samples are left out of an epoch by the processes, '
            f'up to {self.num_samples % batch_size * self.world_size} more by whole batches.',
            logger='current',
        )
        if self.streams % workers and any(local_path(url) is None for url in self.dataset.index.urls):
            print_log(
                f'ShardSampler.streams={self.streams} is no multiple of {workers} workers: every worker reads every '
                'shard, which multiplies the traffic.',
                logger='current',
                level=30,
            )

    def layout(self) -> dict[str, int]:
        """What the order depends on besides seed and epoch; must not change when resuming within an epoch."""
        return dict(
            samples=self.total,
            processes=self.world_size,
            batch_size=self.batch_size,
            streams=self.streams,
            shuffle_buffer=self.shuffle_buffer,
        )

    def order(self) -> np.ndarray:
        """This process's order of the epoch, (num_samples,) int64."""
        counts = np.asarray(self.dataset.index.counts, np.int64)
        shards: np.ndarray = np.arange(len(counts))
        if self.shuffle:
            words = bit_generator(self.seed, self.epoch, NO_SAMPLE, 'shards').random_raw(len(counts))
            shards = np.argsort(words, kind='stable')
        ends = np.cumsum(counts[shards])
        stream_of = np.arange(self.num_samples) // self.batch_size % self.streams
        order = np.empty(self.num_samples, np.int64)
        start = self.rank * self.num_samples
        for stream in range(self.streams):
            mine = np.flatnonzero(stream_of == stream)
            places: np.ndarray = start + np.arange(len(mine))
            start += len(mine)
            if self.shuffle and self.shuffle_buffer:
                name = f'buffer of {self.rank} {stream}'
                words = bit_generator(self.seed, self.epoch, NO_SAMPLE, name).random_raw(len(mine))
                delay = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53 * self.shuffle_buffer
                places = places[np.argsort(np.arange(len(mine)) + delay, kind='stable')]
            at = np.searchsorted(ends, places, side='right')
            within = places - (ends[at] - counts[shards[at]])
            order[mine] = self.dataset.firsts[shards[at]] + within
        return order

    def __iter__(self) -> Iterator[SampleKey]:
        for index in self.order()[self.start :]:
            yield SampleKey(int(index), self.epoch, self.seed)
