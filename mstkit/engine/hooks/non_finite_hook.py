"""Stops a run whose loss or weights are no longer finite, before the damage reaches a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from mmengine import dist
from mmengine.hooks import Hook
from mmengine.runner import Runner, find_latest_checkpoint
from torch import Tensor

from mstkit.registry import HOOKS

REMEDIES = (
    'What helps: resume from that checkpoint with a lower learning rate or a longer warm-up, clip gradients harder, '
    'use bf16 or fp32 instead of fp16, and look for images that are broken or blank.'
)


class NonFiniteLossError(RuntimeError):
    """The training diverged; the message says where, and what to go back to."""


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Raises :class:`NonFiniteLossError` at the first loss term that is NaN or infinite, on every rank at once.

    The weights have been updated with that loss already, so nothing may be saved after it: the hook runs before every
    hook that saves. For gradients that overflow under a finite loss, it also looks at every checkpoint just before
    it is written.
    """

    priority = 'VERY_HIGH'

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Tensor] | None = None
    ) -> None:
        """Looks at the loss terms of this iteration; one host synchronisation, which logging needs anyway."""
        terms = {name: torch.as_tensor(value).detach().float().mean() for name, value in (outputs or {}).items()}
        if not terms:
            return
        values = torch.stack(list(terms.values()))
        broken_anywhere = (~torch.isfinite(values)).any().float()
        dist.all_reduce(broken_anywhere, op='max')
        if not broken_anywhere.item():
            return
        # The sum of all terms is broken whenever one of them is: name it only where it is alone.
        broken = {name: float(value) for name, value in terms.items() if not torch.isfinite(value)}
        named = {name: value for name, value in broken.items() if name != 'loss'} or broken
        what = ', '.join(f'{name} = {value}' for name, value in named.items()) or 'a loss term of another rank'
        raise NonFiniteLossError(
            f'the loss is no longer finite: {what}, at iteration {runner.iter + 1} (epoch {runner.epoch + 1}). '
            f'{self._last_good(runner)} {REMEDIES}'
        )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuses to write weights that are not finite."""
        for name, value in checkpoint['state_dict'].items():
            if isinstance(value, Tensor) and value.is_floating_point() and not torch.isfinite(value).all():
                raise NonFiniteLossError(
                    f'the weights are no longer finite, first {name}, at iteration {runner.iter} '
                    f'(epoch {runner.epoch + 1}); no checkpoint is written. {self._last_good(runner)} {REMEDIES}'
                )

    @staticmethod
    def _last_good(runner: Runner) -> str:
        path = find_latest_checkpoint(runner.work_dir) if Path(runner.work_dir).is_dir() else None
        if path is None:
            return 'No checkpoint had been written yet.'
        return f'The last good checkpoint is {path}.'
