"""The few structures that travel between the parts, and the conventions that they all keep.

Shape legend: B batch · L = h*w patches · C channels · N attention heads · K prototypes · V views · D feature size.

A mask is a bool tensor ``(B, h, w)`` on the patch grid on which it was decided; **True means hidden**. The class token
is never part of it. Patch tokens are row-major: token ``l`` sits at row ``l // w``, column ``l % w``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

# Which tokens of the last layer somebody reads: all, the pooled one, or that and the hidden or the visible patches.
Read = Literal['all', 'hidden', 'visible', 'pooled']


class TokenOutput(NamedTuple):
    """What a backbone says about a batch of images.

    Attributes:
        patch_tokens: (B, L, C), after the final norm, row-major over the grid.
        pooled: (B, C), the class token, or the mean of the patch tokens where there is none.
        grid: (h, w) with h * w = L.
        attention: (B, N, L), what each patch receives from the pooled query in the last block (or in another that was
            asked for), per head; the rows of a head need not sum to one (the class token's share is left out). None
            unless it was asked for.
        hidden: (M,) int64, places of the hidden patches among B * L, ascending, where the backbone looked for them:
            their number is not known before, so on a GPU to look is to wait. None elsewhere.
    """

    patch_tokens: Tensor
    pooled: Tensor
    grid: tuple[int, int]
    attention: Tensor | None = None
    hidden: Tensor | None = None


@runtime_checkable
class TokenEncoder(Protocol):
    """What gives the tokens of images, as every backbone of ours does."""

    def forward_tokens(self, images: Tensor) -> TokenOutput:
        """The tokens of images (B, 3, H, W), normalized."""


class VisibleOutput(NamedTuple):
    """What a backbone says about the visible patches of a batch of images, of which it saw no others.

    Attributes:
        patch_tokens: (B, V, C), after the final norm; V is the largest number of visible patches of an image, and an
            image with fewer has zeros at the end.
        pooled: (B, C), the class token, or the mean of the visible patch tokens where there is none.
        places: (B, V) int64, where each token sits on the flat grid, ascending; -1 for those that are no tokens.
        grid: (h, w).
    """

    patch_tokens: Tensor
    pooled: Tensor
    places: Tensor
    grid: tuple[int, int]


class MaskContext(NamedTuple):
    """What a masker may look at to decide what to hide in B images.

    Attributes:
        images: (B, 3, H, W), normalized, whole.
        grid: (h, w), the patches to decide on, h * w = L.
        tokens: (B, L, C), the guide's patch tokens; None for a masker that does not say ``needs_tokens``.
        scores: (B, N, L), the guide's attention, per head: what each patch receives from the pooled query; None for a
            masker that does not say ``needs_scores``.
    """

    images: Tensor
    grid: tuple[int, int]
    tokens: Tensor | None = None
    scores: Tensor | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(B, L)."""
        return len(self.images), self.grid[0] * self.grid[1]

    @property
    def device(self) -> torch.device:
        """Where the mask is needed."""
        return self.images.device


class FeatureBank(NamedTuple):
    """Features of a labeled set of images, in file order.

    Attributes:
        features: (M, D) float32, not normalized.
        labels: (M,) int64, indices into ``classes``.
        classes: the class names.
    """

    features: Tensor
    labels: Tensor
    classes: tuple[str, ...]


class PanelData(NamedTuple):
    """What a panel of one training step shows; B images side by side.

    Attributes:
        images: (B, 3, H, W), normalized as the network sees them.
        attention: (B, h, w), mean over heads of the teacher's attention, or None where nothing guides the mask.
        mask: (B, h, w) bool, True = hidden, or None without a masker.
        reconstruction: (B, 3, H, W), normalized like ``images``, or None without a decoder.
        target: what the reconstruction should look like, in the same form, where that is not the image itself.
    """

    images: Tensor
    attention: Tensor | None
    mask: Tensor | None
    reconstruction: Tensor | None
    target: Tensor | None = None


@dataclass(frozen=True)
class Progress:
    """Where a training run stands, counted in optimizer steps (not in iterations: they differ when accumulating).

    Attributes:
        step: steps done before this one.
        total_steps: steps of the whole run.
        steps_per_epoch: steps of one epoch.
        rank_seed: an integer that differs from run to run (by its seed) and from rank to rank, never within a rank.
        iteration: iterations done before this one; what randomness of a step is keyed by.
    """

    step: int
    total_steps: int
    steps_per_epoch: int
    rank_seed: int = 0
    iteration: int = 0

    @property
    def epoch(self) -> int:
        """The epoch that this step belongs to, from 0."""
        return self.step // self.steps_per_epoch
