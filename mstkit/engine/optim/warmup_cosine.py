"""The cosine schedule of timm, which MoBY, SimMIM and DeiT use."""

from __future__ import annotations

import math
from typing import Any

from mmengine.optim import _ParamScheduler

from mstkit.errors import UsageError
from mstkit.registry import PARAM_SCHEDULERS

INF = int(1e9)  # mmengine's end of a schedule that has none


@PARAM_SCHEDULERS.register_module()
class WarmupCosineLR(_ParamScheduler):
    """A cosine over the whole run, with its beginning replaced by a linear warm-up: ``CosineLRScheduler`` of timm.

    With T = end - begin and a warm-up of w, at t = 0 .. T-1::

        lr(t) = start + (base - start) * t / w                          for t < w
        lr(t) = eta_min + (base - eta_min) * (1 + cos(pi * t / T)) / 2  from t = w on

    The cosine starts at t = 0. DINO's, and mmengine's ``LinearLR`` followed by ``CosineAnnealingLR``, starts at the end
    of the warm-up: with 5 of 100 epochs that is 5 % more learning rate in sum. Each value is computed from t alone, so
    it cannot be combined with another schedule of the learning rate.

    Args:
        optimizer: the optimizer or its wrapper.
        warmup: w, in the unit of ``begin`` and ``end``; 0 for none.
        start_factor: the learning rate at t = 0, as a share of the optimizer's.
        start_lr: the same as an absolute value, for all parameter groups.
        eta_min: the final learning rate of the cosine, as an absolute value.
        eta_min_ratio: the same as a share of the optimizer's.
        begin: first epoch, or step with ``by_epoch=False``.
        end: last epoch or step, exclusive.
        last_step: see mmengine.
        by_epoch: count in epochs; with ``convert_to_iter_based=True`` in the config the value still changes each step.
        verbose: see mmengine.

    Raises:
        UsageError: a warm-up that is not shorter than the schedule, or one value given in both ways.
    """

    def __init__(
        self,
        optimizer: Any,
        warmup: int = 0,
        start_factor: float | None = None,
        start_lr: float | None = None,
        eta_min: float | None = None,
        eta_min_ratio: float | None = None,
        begin: int = 0,
        end: int = INF,
        last_step: int = -1,
        by_epoch: bool = True,
        verbose: bool = False,
    ) -> None:
        if not 0 <= warmup < end - begin:
            raise UsageError(f'WarmupCosineLR: a warm-up of {warmup} does not fit into {begin} to {end}.')
        for names, values in (
            ('start_factor or start_lr', (start_factor, start_lr)),
            ('eta_min or eta_min_ratio', (eta_min, eta_min_ratio)),
        ):
            if None not in values:
                raise UsageError(f'WarmupCosineLR takes {names}, not both: {values[0]!r} and {values[1]!r}.')
        self.warmup = warmup
        self.start_factor, self.start_lr = start_factor, start_lr
        self.eta_min, self.eta_min_ratio = eta_min, eta_min_ratio
        super().__init__(optimizer, 'lr', begin, end, last_step, by_epoch, verbose)

    @classmethod
    def build_iter_from_epoch(
        cls,
        optimizer: Any,
        warmup: int = 0,
        begin: int = 0,
        end: int = INF,
        by_epoch: bool = True,
        epoch_length: int | None = None,
        **kwargs: Any,
    ) -> WarmupCosineLR:
        """Builds the schedule in steps; mmengine calls this if the config has ``convert_to_iter_based=True``."""

        if not by_epoch or not epoch_length:
            raise UsageError('WarmupCosineLR: convert_to_iter_based=True is for a schedule in epochs, by_epoch=True.')
        begin, warmup = int(begin * epoch_length), int(warmup * epoch_length)
        end = end if end == INF else int(end * epoch_length)
        return cls(optimizer, warmup=warmup, begin=begin, end=end, by_epoch=False, **kwargs)

    def _get_value(self) -> list[float]:
        return [self._at(self.last_step, base) for base in self.base_values]

    def _at(self, step: int, base: float) -> float:
        if step < self.warmup:
            start = base * (self.start_factor or 0.0) if self.start_lr is None else self.start_lr
            return start + (base - start) * step / self.warmup
        low = base * (self.eta_min_ratio or 0.0) if self.eta_min is None else self.eta_min
        return low + (base - low) * (1 + math.cos(math.pi * step / (self.end - self.begin))) / 2
