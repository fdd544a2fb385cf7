"""An epoch loop that can be resumed inside an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from mstkit.datasets import EpochSampler
from mstkit.engine.checkpoints.run_ending import EndsInsideEpochs
from mstkit.registry import LOOPS


@LOOPS.register_module()
class ResumableEpochLoop(EndsInsideEpochs, EpochBasedTrainLoop):
    """mmengine's epoch loop; a run resumed inside an epoch goes on with the very next batch.

    The sampler starts where the interrupted run stopped (``set_epoch(epoch, start=...)`` of
    :class:`mstkit.datasets.EpochSampler`). With a sampler that cannot, the batches already seen are loaded and
    dropped, and a warning is logged.

    Args:
        runner: the runner.
        dataloader: the data loader or its config.
        max_epochs: epochs of the run.
        kwargs: the other arguments of mmengine's ``EpochBasedTrainLoop``.
    """

    def __init__(self, runner: Runner, dataloader: DataLoader | dict, max_epochs: int, **kwargs: Any) -> None:
        super().__init__(runner, dataloader, max_epochs, **kwargs)
        self.iters_per_epoch = self._max_iters // self._max_epochs

    def run_epoch(self) -> None:
        """Runs the remaining iterations of the current epoch, and the hooks at its end."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        # The offset can be a whole epoch, if the checkpoint was written after the last iteration but before the end
        # of the epoch: then only the hooks at its end are left.
        offset = self._iter - self._epoch * self.iters_per_epoch
        for batch_idx, data_batch in self._batches_from(offset):
            self.run_iter(batch_idx, data_batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def _batches_from(self, offset: int) -> Iterator[tuple[int, Any]]:
        if not 0 <= offset <= self.iters_per_epoch:
            raise RuntimeError(
                f'iteration {self._iter} does not lie in epoch {self._epoch} of {self.iters_per_epoch} iterations'
            )
        if offset == self.iters_per_epoch:
            return
        skipped = self._skip_in_sampler(offset)
        batches = iter(self.dataloader)
        if not skipped:
            for _ in range(offset):
                next(batches)
        # Creating the iterator, and dropping batches, may have used the global random generator.
        self.runner.call_hook('before_first_fetch')
        yield from enumerate(batches, start=offset)

    def _skip_in_sampler(self, offset: int) -> bool:
        """Makes the sampler start after ``offset`` batches; returns False if it cannot."""
        batch_sampler = self.dataloader.batch_sampler
        sampler = batch_sampler.sampler
        if isinstance(sampler, EpochSampler):
            # After the sampler-seed hook, which has just set the same epoch without a start.
            sampler.set_epoch(self._epoch, start=offset * batch_sampler.batch_size)
            return True
        if offset:
            print_log(
                f'{type(sampler).__name__} cannot start inside an epoch: loading and dropping {offset} batches.',
                logger='current',
                level=30,
            )
        return False
