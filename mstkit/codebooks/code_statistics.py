"""How well a codebook is used."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class CodeStatistics(NamedTuple):
    """How often codes occur in a set of patches.

    Attributes:
        codes: K.
        used: how many of them occur at all.
        perplexity: as many codes used equally often have the same entropy; from 1 to K.
        largest: the share of patches that the most frequent code has, 0 to 1.
    """

    codes: int
    used: int
    perplexity: float
    largest: float

    def __str__(self) -> str:
        return (
            f'{self.used} of {self.codes} codes in use ({100 * self.used / self.codes:.1f} %), '
            f'perplexity {self.perplexity:.1f}, the most frequent code has {100 * self.largest:.1f} % of the patches'
        )


def code_statistics(counts: Tensor) -> CodeStatistics:
    """Of how often each code occurs, (K,)."""
    total = max(1, int(counts.sum()))
    return CodeStatistics(len(counts), int((counts > 0).sum()), perplexity(counts), float(counts.max()) / total)


def perplexity(counts: Tensor) -> float:
    """exp of the entropy of the frequencies of codes; 1 where nothing occurs."""
    shares = counts.double() / counts.sum().clamp_min(1)
    shares = shares[shares > 0]
    return float(torch.exp(-(shares * shares.log()).sum()))
