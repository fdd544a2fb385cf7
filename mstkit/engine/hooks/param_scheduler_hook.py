"""Schedules that count optimizer steps."""

from __future__ import annotations

from mmengine.hooks import ParamSchedulerHook
from mmengine.runner import Runner

from mstkit.registry import HOOKS


@HOOKS.register_module()
class StepParamSchedulerHook(ParamSchedulerHook):
    """mmengine's hook, but schedules move once per optimizer step, not once per iteration.

    :class:`mstkit.engine.runner.mst_runner.MSTRunner` builds the schedules with their length in optimizer steps, and
    takes this hook in place of mmengine's; see :class:`mstkit.engine.optim.step_counts.StepCounter` for where the steps
    are. Another Runner builds them in iterations, and then they move with every iteration.
    """

    def before_train(self, runner: Runner) -> None:
        """Reads how the run's steps are counted."""
        self._counter = getattr(runner, 'step_counter', None)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Moves the schedules where a step ends."""
        counter = self._counter
        if counter is None or counter.step_of(runner.iter + 1) > counter.step_of(runner.iter):
            super().after_train_iter(runner, batch_idx, data_batch, outputs)
