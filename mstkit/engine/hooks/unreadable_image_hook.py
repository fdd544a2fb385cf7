"""Counts images that cannot be read, and stops the run if they are too many."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mmengine.dist as dist
from mmengine.runner import Runner

from mstkit.datasets.unreadable_images import MAX_FRACTION, MIN_FILES, UnreadableFiles, replaced_in
from mstkit.engine.hooks.hook_memory import RememberingHook
from mstkit.registry import HOOKS
from mstkit.utils.config_parts import hook_configs


@HOOKS.register_module()
class UnreadableImageHook(RememberingHook):
    """Logs each unreadable file once, and stops the run if there are too many.

    Before each iteration it reads ``replaced`` of the packed samples (see
    :class:`mstkit.datasets.file_dataset.FileDataset`). Each process counts by itself; at the end of an epoch the files
    of all ranks are merged. A resumed run keeps the files found before.

    Args:
        max_fraction: the run stops if the share of unreadable files in the training set is above this.
        min_files: this many unreadable files are always tolerated, but at most a quarter of the data set.

    Raises:
        UsageError: there are too many unreadable files.
    """

    priority = 'VERY_HIGH'

    def __init__(self, max_fraction: float = MAX_FRACTION, min_files: int = MIN_FILES) -> None:
        super().__init__()
        self.files = UnreadableFiles(max_fraction, min_files, type(self).__name__)

    @property
    def unreadable(self) -> dict[str, str]:
        """The files that could not be read, each with the reason."""
        return self.files.reasons

    def memory(self, inside_epoch: bool) -> dict[str, str] | None:
        """The files found so far."""
        return dict(self.unreadable) or None

    def recall(self, memories: list[Any], rank: int) -> None:
        """Restores the files found by all processes; they have been logged before."""
        for found in memories:
            self.files.add(found or {})

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Logs the replaced files of the batch, if any."""
        if found := replaced_in(data_batch):
            self._add(runner, found)

    def after_train_epoch(self, runner: Runner) -> None:
        """Merges the files that all processes found."""
        if dist.get_world_size() == 1:
            return
        together: dict[str, str] = {}
        for found in dist.all_gather_object(self.unreadable):
            together.update(found)
        self._add(runner, together)

    def after_train(self, runner: Runner) -> None:
        """Logs how many images could not be read."""
        runner.logger.info(f'images of the training set: {self.files.summary(len(runner.train_dataloader.dataset))}')

    def _add(self, runner: Runner, found: Mapping[str, str]) -> None:
        for path, reason in self.files.add(found).items():
            runner.logger.warning(f'unreadable image, replaced by another: {path} ({reason or "no reason given"})')
        self.files.check(len(runner.train_dataloader.dataset), self._option(runner))

    def _option(self, runner: Runner) -> str:
        """The command-line option that sets ``max_fraction``, with the hook's dotted path in the config."""
        name = type(self).__name__
        paths = [path for path, hook in hook_configs(runner.cfg) if str(hook.get('type')).split('.')[-1] == name]
        return f'--cfg-options {paths[0]}.max_fraction' if paths else f'{name}.max_fraction'
