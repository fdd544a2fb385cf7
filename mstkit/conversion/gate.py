"""The comparison that a conversion has to pass: two networks, the same images."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mstkit.conversion.library import Features
from mstkit.errors import WorkStopped

TOLERANCE = 1e-5  # of float32 features after a norm
BATCH = 2


class Difference(NamedTuple):
    """The largest differences of what two networks make of the same images.

    Attributes:
        first: of the class tokens or pooled features.
        patches: of the patch tokens.
        scale: the largest absolute value among the features, at least 1; differences are measured by it.
    """

    first: float
    patches: float
    scale: float

    def largest(self) -> float:
        """The larger one, by the scale; NaN if either is."""
        both = self.first + self.patches  # max() of Python's passes a NaN over where it comes second
        return both if math.isnan(both) else max(self.first, self.patches) / self.scale

    def __str__(self) -> str:
        by = f' (of features up to {self.scale:.1f})' if self.scale > 10 else ''
        return f'class token or pooled {self.first:.1e}, patch tokens {self.patches:.1e}{by}'


def trial_images(image: tuple[int, int]) -> Tensor:
    """Two normalized images (2, 3, H, W), the same ones every time: slopes of color under noise.

    Args:
        image: (height, width) in pixels.
    """
    height, width = image
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(BATCH, 3, height, width, generator=generator)
    down = torch.linspace(-1.5, 1.5, height)[None, None, :, None]
    right = torch.linspace(-1.0, 2.0, width)[None, None, None, :]
    return 0.5 * noise + down * torch.tensor([1.0, -1.0, 0.5])[None, :, None, None] + 0.3 * right


def compare(found: Features, expected: Features, what: str) -> Difference:
    """The difference of two networks' features, which has to be none but rounding.

    Args:
        found: of the one that was made.
        expected: of the other one.
        what: the one that was made, for the message.

    Raises:
        WorkStopped: it is above :data:`TOLERANCE`, or shapes differ.
    """
    if found.patches.shape != expected.patches.shape:
        shapes = f'{tuple(found.patches.shape)} and {tuple(expected.patches.shape)}'
        raise WorkStopped(f'{what} gives patch tokens of another shape: {shapes}')
    scale = max(1.0, float(expected.patches.abs().max()))
    scale = max(scale, float(expected.first.abs().max()))
    difference = Difference(_largest(found.first, expected.first), _largest(found.patches, expected.patches), scale)
    if not difference.largest() <= TOLERANCE:  # so that NaN does not pass
        raise WorkStopped(f'{what} gives other features than its origin: {difference}; {TOLERANCE:.0e} is allowed')
    return difference


def _largest(one: Tensor, other: Tensor) -> float:
    return float((one.float() - other.float()).abs().max())
