"""Weights of hidden patches in a loss by the attention that they get (AttG-MAE)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mstkit.errors import UsageError
from mstkit.structures import Progress
from mstkit.utils.checks import check_number


class AttentionWeighting:
    """Weighs the error of a patch by exp(m / τ), with its score m (Sick et al., WACV 2025, arXiv 2402.15172).

    The scores of an image are brought to 0..1, its least and its most attended patch. The error of a patch counts
    γ exp(m / τ) times. The paper's scores are maps of TokenCut, ours those of any guide.

    Args:
        temperature: τ > 0 at the start; small ones count the most attended patches alone, large ones all alike.
        end_temperature: τ at the end of the run, in between it follows half a cosine; None keeps ``temperature``.
        factor: γ, with which the loss can keep the scale of an unweighted one.

    Raises:
        UsageError: a temperature that is not positive, or so small that exp(1 / τ) is no float32 number.
    """

    def __init__(self, temperature: float, end_temperature: float | None = None, factor: float = 1.0) -> None:
        given = dict(temperature=temperature)
        given['end_temperature'] = temperature if end_temperature is None else end_temperature
        for name, value in given.items():
            check_number(f'weighting.{name}', value, above=0, high=1e6)
            if value < 0.012:  # exp(1 / 0.012) is 1.5e36, and a batch has thousands of patches
                raise UsageError(f'weighting.{name} is {value!r}: exp(1 / {value!r}) is too large, give 0.012 or more')
        self.start, self.end = given['temperature'], given['end_temperature']
        self.temperature = self.start
        self.factor = check_number('weighting.factor', factor, above=0, high=1e6)

    def set_progress(self, progress: Progress) -> None:
        """Sets the temperature of the coming step."""
        self.temperature = self.end + (self.start - self.end) * progress.half_cosine

    def __call__(self, scores: Tensor) -> Tensor:
        """Weights of patches, (B, L) float32 from γ to γ exp(1 / τ), without gradient.

        Args:
            scores: (B, L), of all patches of each image; where all are equal, so are the weights.
        """
        scores = scores.detach().float()
        low, high = scores.amin(dim=1, keepdim=True), scores.amax(dim=1, keepdim=True)
        scaled = (scores - low) / (high - low).clamp_min(torch.finfo(torch.float32).tiny)
        return self.factor * (scaled / self.temperature).exp()


def weighting_of(config: Mapping[str, Any]) -> AttentionWeighting:
    """Builds the weighting of a config. Raises UsageError for what it does not take."""
    known = ('temperature', 'end_temperature', 'factor')
    unknown = [name for name in config if name not in known]
    if unknown or 'temperature' not in config:
        raise UsageError(
            f'weighting is {dict(config)!r}: give temperature, and end_temperature where it is to change'
            + (f'; there is no {unknown[0]!r}' if unknown else '')
        )
    return AttentionWeighting(**config)
