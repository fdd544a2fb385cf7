"""Schedules that count optimizer steps."""

from __future__ import annotations

from mmengine.hooks import ParamSchedulerHook

from mstkit.engine.hooks.progress_hook import optimizer_stepped
from mstkit.registry import HOOKS


@HOOKS.register_module()
class StepParamSchedulerHook(ParamSchedulerHook):
    """mmengine's hook, but iteration-based schedules move once per optimizer step, not once per iteration.

    With ``accumulative_counts=1`` the two are the same. :class:`mstkit.engine.runner.MSTRunner` builds the schedules
    with their length in optimizer steps.
    """

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Moves the schedules where the optimizer had its turn."""
        if optimizer_stepped(runner.optim_wrapper):
            super().after_train_iter(runner, batch_idx, data_batch, outputs)
