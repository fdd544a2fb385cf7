"""Counting the images that could not be read, and stopping when they are too many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mmengine.dist as dist
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mstkit.checks import check_number
from mstkit.errors import UsageError
from mstkit.registry import HOOKS


@HOOKS.register_module()
class UnreadableImageHook(Hook):
    """Names each unreadable file once in the log and stops the run when they are more than a share of the data set.

    It reads ``replaced`` of the packed samples (see :class:`mstkit.datasets.file_dataset.FileDataset`), before the
    iteration that they would have been part of. Each process counts by itself; at the end of an epoch the files are
    put together, so that those of all ranks count.

    Args:
        max_fraction: distinct unreadable files / size of the training set beyond which the run stops.

    Raises:
        UsageError: there are too many.
    """

    priority = 'VERY_HIGH'

    def __init__(self, max_fraction: float = 0.01) -> None:
        self.max_fraction = check_number('UnreadableImageHook.max_fraction', max_fraction, 0, 1)
        self.unreadable: dict[str, str] = {}

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Looks through the batch; costs nothing where nothing was replaced."""
        samples: Sequence[Any] = data_batch.get('data_samples') or () if isinstance(data_batch, dict) else ()
        new: dict[str, str] = {}
        for sample in samples:
            paths = sample.get('replaced') if sample is not None else None
            if paths:
                new.update(zip(paths, sample.get('replaced_reasons') or [''] * len(paths), strict=True))
        if new:
            self._learn(runner, new)

    def after_train_epoch(self, runner: Runner) -> None:
        """Puts together what all processes found."""
        if dist.get_world_size() == 1:
            return
        together: dict[str, str] = {}
        for found in dist.all_gather_object(self.unreadable):
            together.update(found)
        self._learn(runner, together)

    def after_train(self, runner: Runner) -> None:
        """The last word on it."""
        size = len(runner.train_dataloader.dataset)
        count = len(self.unreadable)
        said = f'{count} of {size} files could not be read and were replaced' if count else 'all could be read'
        runner.logger.info(f'images of the training set: {said}')

    def _learn(self, runner: Runner, found: dict[str, str]) -> None:
        new = {path: reason for path, reason in found.items() if path not in self.unreadable}
        self.unreadable.update(new)
        for path, reason in new.items():
            runner.logger.warning(f'unreadable image, replaced by another: {path} ({reason or "no reason given"})')
        size = len(runner.train_dataloader.dataset)
        if len(self.unreadable) > self.max_fraction * size:
            path, reason = next(iter(self.unreadable.items()))
            raise UsageError(
                f'{len(self.unreadable)} of the {size} images cannot be read, which is more than '
                f'{100 * self.max_fraction:g} %, for instance {path} ({reason}): check that the data set was copied '
                'completely, remove the broken files, or raise UnreadableImageHook.max_fraction.'
            )
