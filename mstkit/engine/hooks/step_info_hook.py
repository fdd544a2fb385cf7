"""mmengine's RuntimeInfoHook, which does not make the host wait for the device in every iteration."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import RuntimeInfoHook
from mmengine.runner import Runner
from torch import Tensor

from mstkit.engine.checkpointing import hub_state
from mstkit.engine.step_values import StepValues
from mstkit.registry import HOOKS


@HOOKS.register_module()
class StepInfoHook(RuntimeInfoHook):
    """Brings losses to the log when a line of it is due, not in every iteration.

    mmengine's reads them all at once after each step: the host then cannot prepare the next step while the device is
    at work on this one. What is logged, and what a checkpoint remembers of it, is the same.
    """

    def __init__(self) -> None:
        super().__init__()
        self._kept = StepValues()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Tensor] | None = None
    ) -> None:
        """Keeps the values of ``outputs``, and hands them on where somebody is about to read them."""
        if outputs:
            self._kept.keep(runner, outputs)
        if self._kept.due(runner, batch_idx):
            self._hand_on(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """A checkpoint holds the history of the log: a copy, made before hooks are asked."""
        if self._hand_on(runner):
            checkpoint['message_hub'] = hub_state(runner.message_hub)

    def after_train(self, runner: Runner) -> None:
        """Hands on what is left."""
        self._hand_on(runner)

    def _hand_on(self, runner: Runner) -> int:
        steps = self._kept.read()
        for step in steps:
            for name, value in step.values.items():
                runner.message_hub.update_scalar(f'train/{name}', value)
        return len(steps)
