"""Data structures passed between the components, and the shape and mask conventions that all of them follow.

Shape legend: B batch · L = h*w patches · C channels · N attention heads · K prototypes · V views · D feature size.

A mask is a bool tensor ``(B, h, w)`` on a patch grid; **True means hidden**. The class token is never masked. Patch
tokens are row-major: token ``l`` sits at row ``l // w``, column ``l % w``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

# The output tokens that a caller uses: all, the pooled one alone, or the pooled one with the hidden or visible patches.
Read = Literal['all', 'hidden', 'visible', 'pooled']


class TokenOutput(NamedTuple):
    """A backbone's output for a batch of images.

    Attributes:
        patch_tokens: (B, L, C), after the final norm, row-major over the grid.
        pooled: (B, C), the class token, or the mean of the patch tokens where there is none.
        grid: (h, w) with h * w = L.
        attention: (B, N, L), attention from the pooled query to each patch in the last block (or the requested one),
            per head; a row may sum to less than one, since the attention to the class token is left out. None unless
            requested.
        hidden: (M,) int64, ascending indices of the hidden patches among B * L, if the backbone computed them; else
            None. Reusing them saves another ``nonzero()``, which makes the host wait for the GPU.
        layers: the patch tokens (B, L, C) after each of the last blocks, without the final norm, the last block's last;
            as many as were requested.
        class_tokens: the class token (B, C) after each of the same blocks; empty without class token.
    """

    patch_tokens: Tensor
    pooled: Tensor
    grid: tuple[int, int]
    attention: Tensor | None = None
    hidden: Tensor | None = None
    layers: tuple[Tensor, ...] = ()
    class_tokens: tuple[Tensor, ...] = ()


@runtime_checkable
class TokenEncoder(Protocol):
    """Anything that encodes images into tokens; every :class:`MaskedBackbone` is one."""

    def forward_tokens(self, images: Tensor) -> TokenOutput:
        """Encodes normalized images (B, 3, H, W)."""


@runtime_checkable
class PoolingEncoder(TokenEncoder, Protocol):
    """A :class:`TokenEncoder` that says what the feature of an image is.

    Attributes:
        global_pool: as timm's: 'token', ``pooled`` of the tokens; 'avg', the mean of the patch tokens.
    """

    global_pool: str


def averages_patches(backbone: object) -> bool:
    """Whether the feature of an image is the mean of its patch tokens by the backbone's own word."""
    return isinstance(backbone, PoolingEncoder) and backbone.global_pool == 'avg'


@runtime_checkable
class ClassTokenBackbone(Protocol):
    """A backbone without ``forward_tokens`` whose output tokens (B, L, C) begin with a class token, if it is not None.

    mmpretrain's are such; any other one's tokens are taken for patches.
    """

    cls_token: Tensor | None


@runtime_checkable
class PositionsOnGrid(Protocol):
    """A backbone that says on which grid its learned positions lie, as mmpretrain's ViT and Swin do.

    Attributes:
        patch_resolution: (h, w) of the grid.
        interpolate_mode: of ``torch.nn.functional.interpolate``, for another grid.
    """

    patch_resolution: Any
    interpolate_mode: str


@runtime_checkable
class PositionsWithOffset(Protocol):
    """A backbone that interpolates its positions as DINO does.

    Attributes:
        interpolate_offset: what is added to the sides of the wanted grid.
    """

    interpolate_offset: float


@runtime_checkable
class PlacedRelatively(Protocol):
    """A backbone that may have relative positions as BEiT's, as mstkit's ViT does.

    Attributes:
        relative_positions: 'shared', 'per_layer' or None.
    """

    relative_positions: str | None


@runtime_checkable
class PlacedByRotation(Protocol):
    """A backbone that may have rotary positions, as mstkit's ViT does.

    Attributes:
        rotary_base: of them, None without.
    """

    rotary_base: float | None


@runtime_checkable
class TableOnGrid(Protocol):
    """A backbone with tables of relative positions that says for which grid they are.

    Attributes:
        table_grid: (h, w).
    """

    table_grid: tuple[int, int]


class DrawnMask(NamedTuple):
    """What a masker draws: (B, h, w) bool both, of which no patch is in both; a patch in neither is visible.

    Attributes:
        hidden: True = hidden from the student and predicted.
        thrown: True = neither encoded nor predicted (AMT); None of a masker that throws nothing.
    """

    hidden: Tensor
    thrown: Tensor | None = None


class VisibleOutput(NamedTuple):
    """Output of a backbone that encoded the visible patches alone.

    Attributes:
        patch_tokens: (B, V, C), after the final norm; V is the largest number of visible patches of an image, and an
            image with fewer has zeros at the end.
        pooled: (B, C), the class token, or the mean of the visible patch tokens where there is none.
        places: (B, V) int64, index of each token's patch on the flat grid, ascending; -1 for padding.
        grid: (h, w).
        layers: as in :class:`TokenOutput`, of the visible patches, (B, V, C) each.
        class_tokens: as in :class:`TokenOutput`.
        thrown: (B, h, w) bool, the patches that are to have no token in a decoder either; None for none. No backbone
            fills it in; :class:`mstkit.models.Step` does.
        padded: whether a place may be padding. False only where all images have equally many visible patches, so that
            nobody has to build a mask, or to ask the device whether one is needed.
    """

    patch_tokens: Tensor
    pooled: Tensor
    places: Tensor
    grid: tuple[int, int]
    layers: tuple[Tensor, ...] = ()
    class_tokens: tuple[Tensor, ...] = ()
    thrown: Tensor | None = None
    padded: bool = True


class MaskContext(NamedTuple):
    """Input of a masker for B images.

    Attributes:
        images: (B, 3, H, W), normalized, unmasked.
        grid: (h, w) of the mask, h * w = L.
        tokens: (B, L, C), the guide's patch tokens; None unless the masker sets ``needs_tokens``.
        scores: (B, N, L), the guide's attention from the pooled query to each patch, per head; None unless the masker
            sets ``needs_scores``.
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
        """The device of the images and the mask."""
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
    """Images shown in a panel of one training step; B images side by side.

    Attributes:
        images: (B, 3, H, W), normalized.
        attention: (B, h, w), mean over heads of the attention that guides the masker, else of the teacher's; None where
            there is neither.
        mask: (B, h, w) bool, True = hidden, or None without a masker.
        reconstruction: (B, 3, H, W), normalized like ``images``, or None without a decoder.
        target: (B, 3, H, W), the reconstruction's target where it is not the image itself (HOG, for example); else
            None.
        attention_of: whose attention it is: 'teacher' or the class of the guide.
        reconstruction_with: what the reconstruction has from the image itself, see :attr:`Target.shown_with`.
        thrown: (B, h, w) bool, the patches that are neither encoded nor predicted; None where there are none.
        further: more columns by title, (B, 3, H, W) each, normalized like ``images``.
    """

    images: Tensor
    attention: Tensor | None
    mask: Tensor | None
    reconstruction: Tensor | None
    target: Tensor | None = None
    attention_of: str = 'teacher'
    reconstruction_with: str = ''
    thrown: Tensor | None = None
    further: Mapping[str, Tensor] = MappingProxyType({})


@dataclass(frozen=True)
class Progress:
    """Position in a training run, in optimizer steps (with gradient accumulation a step is several iterations).

    Attributes:
        step: optimizer steps completed.
        total_steps: steps of the whole run.
        steps_per_epoch: steps of one epoch.
        rank_seed: a seed derived from the run's seed and the rank, constant during a run.
        iteration: iterations completed; with ``rank_seed`` it seeds the random draws of an iteration.
    """

    step: int
    total_steps: int
    steps_per_epoch: int
    rank_seed: int = 0
    iteration: int = 0

    @property
    def epoch(self) -> int:
        """The epoch of this step, from 0."""
        return self.step // self.steps_per_epoch

    @property
    def half_cosine(self) -> float:
        """Half a cosine over the run, from 1 before the first step to 0 after the last."""
        return 0.5 * (1 + math.cos(math.pi * self.step / self.total_steps))
