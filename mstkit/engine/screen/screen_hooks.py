"""Hooks that show a training: the summary at its start, the progress of its steps, the results of its validations.

:class:`mstkit.engine.runner.mst_runner.MSTRunner` adds them; a config does not name them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from mmengine.hooks import Hook, LoggerHook
from mmengine.runner import EpochBasedTrainLoop, Runner

from mstkit.engine.checkpoints.data_order import batch_size_of
from mstkit.engine.hooks.knn_hook import STATE
from mstkit.engine.screen.console import Screen
from mstkit.engine.screen.start_summary import StartSummary
from mstkit.utils.progress_bar import time_left
from mstkit.utils.progress_line import ProgressLine, is_terminal

WINDOW = 10  # steps over which loss and seconds are averaged, as in the log
METRICS = 6  # results of a validation that are shown; the log file has all


class SummaryHook(Hook):
    """Shows the :class:`StartSummary` before anything is measured or trained."""

    priority = 'VERY_HIGH'  # registered last, so that it comes after PretrainedBackboneHook

    def __init__(self, screen: Screen) -> None:
        self.screen = screen

    def before_train(self, runner: Any) -> None:
        """Shows it, on rank 0."""
        if self.screen.speaks:
            summary = StartSummary(runner, self.screen.changes, runner.rate_in_words, runner.weights_in_words)
            self.screen.say(str(summary))


class StepLineHook(Hook):
    """Shows the newest step in a line in place, or, where there is no terminal, a line per interval of the log.

    Reads only what other hooks have taken from the device, so that no step waits for it.
    """

    priority = 'BELOW_NORMAL'  # as mmengine's LoggerHook, and registered later: after its line, before checkpoints

    def __init__(self, screen: Screen) -> None:
        self.screen = screen
        self.line: ProgressLine | None = None

    def before_run(self, runner: Runner) -> None:
        """Opens the line, on a terminal."""
        if self.screen.speaks and is_terminal(self.screen.stream):
            self.line = ProgressLine(self.screen.stream)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Shows a step of the training."""
        due = self._logged(runner, batch_idx) if self.line is None else self.line.due
        if due:
            self._show(step_in_words(runner))

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence | None = None
    ) -> None:
        """Shows a step of the validation."""
        self._measured(runner, batch_idx, 'validation', runner.val_dataloader)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence | None = None
    ) -> None:
        """Shows a step of the test."""
        self._measured(runner, batch_idx, 'test', runner.test_dataloader)

    def after_val_epoch(self, runner: Runner, metrics: Mapping[str, Any] | None = None) -> None:
        """Shows the results of a validation."""
        self._results(f'validation, {place_of(runner, finished=True)}', metrics)

    def after_test_epoch(self, runner: Runner, metrics: Mapping[str, Any] | None = None) -> None:
        """Shows the results of a test."""
        self._results('test', metrics)

    def after_run(self, runner: Runner) -> None:
        """Takes the line off the terminal."""
        self.close()

    def close(self) -> None:
        """Takes the line off the terminal, also after an error."""
        if self.line is not None:
            self.line.close()

    def _show(self, text: str) -> None:
        if self.line is not None:
            self.line.show(text)
        else:
            self.screen.show(text)

    def _measured(self, runner: Runner, batch_idx: int, what: str, loader: Any) -> None:
        due = self.every_n_inner_iters(batch_idx, _interval(runner)) if self.line is None else self.line.due
        if due:
            self._show(f'{what} {batch_idx + 1}/{len(loader)}')

    def _results(self, what: str, metrics: Mapping[str, Any] | None) -> None:
        numbers = {name: value for name, value in (metrics or {}).items() if isinstance(value, Real)}
        shown = ', '.join(f'{name} {float(value):.4g}' for name, value in list(numbers.items())[:METRICS])
        more = len(numbers) - METRICS
        if shown:
            self.screen.show(f'{what}: {shown}{f" (and {more} more, in the log)" if more > 0 else ""}')

    def _logged(self, runner: Runner, batch_idx: int) -> bool:
        """Whether mmengine's LoggerHook writes a line about this step."""
        loader, interval = runner.train_dataloader, _interval(runner)
        return self.every_n_inner_iters(batch_idx, interval) or (
            self.end_of_epoch(loader, batch_idx) and len(loader) <= interval
        )


def step_in_words(runner: Runner) -> str:
    """The last step, such as ``epoch 3/100 120/450  loss 6.43  lr 1e-03  k-NN 71.2  1234 images/s  2:13 left``."""
    hub = runner.message_hub
    words = [place_of(runner)]
    scalars = hub.log_scalars
    if 'train/loss' in scalars:
        words.append(f'loss {scalars["train/loss"].mean(WINDOW):.4g}')
    rate = next((name for name in ('train/base_lr', 'train/lr') if name in scalars), None)
    if rate is not None:
        words.append(f'lr {scalars[rate].current():.2g}')
    words += _knn(hub.runtime_info.get(STATE))
    if 'train/time' in scalars:
        seconds = float(scalars['train/time'].mean(WINDOW))
        images = batch_size_of(runner.train_dataloader) * runner.world_size
        words.append(f'{images / max(seconds, 1e-9):.3g} images/s')
    if 'eta' in hub.runtime_info:
        words.append(time_left(float(hub.get_info('eta'))))
    return '  '.join(words)


def place_of(runner: Runner, finished: bool = False) -> str:
    """The epoch and the step in it, or the iteration, counted from 1.

    Args:
        runner: in a step, or, if ``finished``, after it.
        finished: the loop has counted the step already; only the epoch is named.
    """
    loop = runner.train_loop
    done = runner.iter + (0 if finished else 1)
    if not isinstance(loop, EpochBasedTrainLoop):
        return f'iteration {done}/{loop.max_iters}'
    length = loop.max_iters // loop.max_epochs
    if finished:
        return f'epoch {runner.epoch}/{loop.max_epochs}'
    return f'epoch {runner.epoch + 1}/{loop.max_epochs} {done - runner.epoch * length}/{length}'


def _knn(state: Mapping[str, Any] | None) -> list[str]:
    """The best accuracy so far, or that of the start."""
    if not state:
        return []
    if state.get('best') is not None:
        return [f'k-NN {state["best"]:.1f} (best, epoch {state["best_epoch"]})']
    start = state.get('start') or {}
    return [f'k-NN {max(start.values()):.1f} (start)'] if start else []


def _interval(runner: Runner) -> int:
    return next((hook.interval for hook in runner.hooks if isinstance(hook, LoggerHook)), 50)
