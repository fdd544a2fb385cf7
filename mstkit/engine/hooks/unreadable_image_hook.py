"""Counting the images that could not be read, and stopping when they are too many."""

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
    """Names each unreadable file once in the log and stops the run when they are too many.

    It reads ``replaced`` of the packed samples (see :class:`mstkit.datasets.file_dataset.FileDataset`), before the
    iteration that they would have been part of. Each process counts by itself; at the end of an epoch the files are
    put together, so that those of all ranks count. A resumed run goes on with what it had found.

    Args:
        max_fraction: distinct unreadable files / size of the training set beyond which the run stops.
        min_files: so many are tolerated in a small data set too, up to a quarter of it.

    Raises:
        UsageError: there are too many.
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
        """The files so far."""
        return dict(self.unreadable) or None

    def recall(self, memories: list[Any], rank: int) -> None:
        """Those of all processes; the log named them before."""
        for found in memories:
            self.files.add(found or {})

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Looks through the batch; costs nothing where nothing was replaced."""
        if found := replaced_in(data_batch):
            self._learn(runner, found)

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
        runner.logger.info(f'images of the training set: {self.files.summary(len(runner.train_dataloader.dataset))}')

    def _learn(self, runner: Runner, found: Mapping[str, str]) -> None:
        for path, reason in self.files.add(found).items():
            runner.logger.warning(f'unreadable image, replaced by another: {path} ({reason or "no reason given"})')
        self.files.check(len(runner.train_dataloader.dataset), self._option(runner))

    def _option(self, runner: Runner) -> str:
        """How the command line calls ``max_fraction``: the hook's place in the config is part of the name."""
        name = type(self).__name__
        places = [
            path
            for path, hook in hook_configs(getattr(runner, 'cfg', {}))
            if str(hook.get('type')).split('.')[-1] == name
        ]
        return f'--cfg-options {places[0]}.max_fraction' if places else f'{name}.max_fraction'
