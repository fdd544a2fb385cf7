"""mmengine's RuntimeInfoHook, but without making the host wait for the device in every iteration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.hooks import RuntimeInfoHook
from mmengine.runner import Runner
from torch import Tensor

from mstkit.engine.checkpoints.checkpointing import hub_state
from mstkit.engine.hooks.step_values import Step, StepValuesHook
from mstkit.engine.optim.optim_wrapper import DistillationOptimWrapper
from mstkit.registry import HOOKS


@HOOKS.register_module()
class StepInfoHook(StepValuesHook, RuntimeInfoHook):
    """Copies losses from the device when a line of the log is due, not after every iteration.

    mmengine's hook copies them after each step, so that the host cannot prepare the next step while the device still
    computes. The log and its history in checkpoints are the same.
    """

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Tensor] | None = None
    ) -> None:
        """Keeps also what the optimizer wrapper counts."""
        wrapper = runner.optim_wrapper
        counted = wrapper.counted() if isinstance(wrapper, DistillationOptimWrapper) else {}
        logged: dict[str, Any] = {**(outputs or {}), **counted}
        super().after_train_iter(runner, batch_idx, data_batch, logged)

    def take(self, runner: Runner, steps: Sequence[Step]) -> None:
        """Adds the values of steps to the history of the log."""
        for step in steps:
            for name, value in step.values.items():
                runner.message_hub.update_scalar(f'train/{name}', value)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Updates the checkpoint's copy of the log history, which was made before this hook added the last steps."""
        if self.hand_out(runner):
            checkpoint['message_hub'] = hub_state(runner.message_hub)

    def after_train(self, runner: Runner) -> None:
        """Adds the last steps to the history of the log."""
        self.hand_out(runner)
