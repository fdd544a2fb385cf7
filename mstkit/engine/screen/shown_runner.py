"""A Runner whose screen is for people."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.logging import MMLogger
from torch import nn

from mstkit.engine.checkpoints.resumable_runner import ResumableRunner
from mstkit.engine.screen.console import Screen
from mstkit.engine.screen.screen_hooks import StepLineHook, SummaryHook
from mstkit.engine.screen.time_left_hook import TimeLeftHook


class ShownRunner(ResumableRunner):
    """Shows a summary, the progress and the results; base class of :class:`mstkit.engine.runner.mst_runner.MSTRunner`.

    Attributes:
        screen: set before mmengine's Runner is initialized.
        rate_in_words: which learning rate is reached when.
    """

    screen: Screen
    rate_in_words = ''

    def build_logger(self, *args: Any, **settings: Any) -> MMLogger:
        """As mmengine's, with the console of :class:`Screen`."""
        logger = super().build_logger(*args, **settings)
        self.screen.attach(logger)
        return logger

    def train(self) -> nn.Module:
        """As mmengine's, on the screen."""
        with self._shown():
            return super().train()

    def test(self) -> dict[str, float]:
        """As mmengine's, on the screen."""
        with self._shown():
            return super().test()

    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **settings: Any) -> None:
        """As that of :class:`ResumableRunner`, with a line on the screen."""
        super().save_checkpoint(out_dir, filename, *args, **settings)
        if is_main_process():
            self.screen.say(f'checkpoint: {Path(out_dir) / filename}')

    @contextmanager
    def _shown(self) -> Iterator[None]:
        self.register_hook(TimeLeftHook())
        line = StepLineHook(self.screen)
        if not self.screen.full:
            for hook in (SummaryHook(self.screen), line):
                self.register_hook(hook)
        with self.screen.listening():
            try:
                yield
            finally:
                line.close()
