"""A hook that moves parameter schedules once per optimizer step."""

from __future__ import annotations

from mmengine.hooks import ParamSchedulerHook
from mmengine.runner import Runner

from mstkit.engine.checkpoints.resumable_runner import ResumableRunner
from mstkit.registry import HOOKS


@HOOKS.register_module()
class StepParamSchedulerHook(ParamSchedulerHook):
    """mmengine's hook, but schedules move once per optimizer step, not once per iteration.

    :class:`mstkit.engine.runner.mst_runner.MSTRunner` uses this hook in place of mmengine's, and builds schedules whose
    length is in optimizer steps (:class:`mstkit.engine.optim.step_counts.StepCounter`). Other Runners build them in
    iterations, so there they move once per iteration.
    """

    def before_train(self, runner: Runner) -> None:
        """Gets the runner's step counter, if it has one."""
        self._counter = runner.step_counter if isinstance(runner, ResumableRunner) else None

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Moves the schedules after an iteration that ends an optimizer step."""
        counter = self._counter
        if counter is None or counter.step_of(runner.iter + 1) > counter.step_of(runner.iter):
            super().after_train_iter(runner, batch_idx, data_batch, outputs)
