"""mmengine's RuntimeInfoHook, which does not make the host wait for the device in every iteration."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.hooks import RuntimeInfoHook
from mmengine.runner import Runner

from mstkit.engine.checkpoints.checkpointing import hub_state
from mstkit.engine.hooks.step_values import Step, StepValuesHook
from mstkit.registry import HOOKS


@HOOKS.register_module()
class StepInfoHook(StepValuesHook, RuntimeInfoHook):
    """Brings losses to the log when a line of it is due, not in every iteration.

    mmengine's reads them all at once after each step: the host then cannot prepare the next step while the device is
    at work on this one. What is logged, and what a checkpoint remembers of it, is the same.
    """

    def take(self, runner: Runner, steps: Sequence[Step]) -> None:
        """Adds them to the history of the log."""
        for step in steps:
            for name, value in step.values.items():
                runner.message_hub.update_scalar(f'train/{name}', value)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """A checkpoint holds the history of the log: a copy, made before hooks are asked."""
        if self.hand_out(runner):
            checkpoint['message_hub'] = hub_state(runner.message_hub)

    def after_train(self, runner: Runner) -> None:
        """Hands out what is left."""
        self.hand_out(runner)
