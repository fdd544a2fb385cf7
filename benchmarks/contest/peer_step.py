"""What a training step of another package has in common with any other: views, precision, phases."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor

from contest.clock import Clock
from contest.our_step import made_views

DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class PeerStep:
    """Base class of the steps of other packages; a subclass builds its networks and its optimizer.

    Args:
        sizes: sides of the views in px, the global ones first.
        batch: number of images.
        device: of the step.
        dtype: float32, bfloat16 or float16 (without a loss scaler, whose time is negligible).
    """

    optimizer: torch.optim.Optimizer

    def __init__(self, sizes: list[int], batch: int, device: str, dtype: str) -> None:
        torch.manual_seed(0)
        self.device, self.dtype = torch.device(device), DTYPES[dtype]
        self.clock: Clock | None = None
        # Their loaders return float images; ours return uint8, and the conversion is part of our step.
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
        self.views = [((view / 255 - mean) / std).to(self.device) for view in made_views(sizes, batch)]

    def forward(self) -> Tensor:
        """The loss of the views."""
        raise NotImplementedError

    def clip(self) -> None:
        """Clips the gradients, if the recipe does."""

    def follow(self) -> None:
        """Moves the teacher, if there is one."""

    def watch(self, clock: Clock) -> None:
        """Makes a clock measure the phases of the following steps."""
        self.clock = clock

    def phase(self, name: str) -> Any:
        """A phase of the clock, if there is one."""
        return contextlib.nullcontext() if self.clock is None else self.clock.phase(name)

    def __call__(self) -> None:
        half = self.dtype is not torch.float32
        with self.phase('losses'), torch.autocast(self.device.type, self.dtype, enabled=half):
            loss = self.forward()
        with self.phase('backward'):
            loss.backward()
        with self.phase('optimizer'):
            self.clip()
            self.optimizer.step()
            self.optimizer.zero_grad()
        with self.phase('EMA'):
            self.follow()
