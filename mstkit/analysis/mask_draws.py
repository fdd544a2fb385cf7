"""Draws of a masker outside of training, keyed like those of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from mstkit.analysis.mask_statistics import MaskSummary, summarize
from mstkit.structures import MaskContext, Progress


class DrawsMasks(Protocol):
    """What a masker is to this module; see ``mstkit.models.maskers.Masker``."""

    def set_progress(self, progress: Progress) -> None:
        """Keys the randomness of the coming draw."""

    def __call__(self, context: MaskContext, /) -> Tensor:
        """Gives (B, h, w) bool."""


def progress_at(seed: int, iteration: int, epoch: int = 0) -> Progress:
    """A moment of a run with one step per epoch; see :func:`draw_with`."""
    return Progress(step=epoch, total_steps=epoch + 1, steps_per_epoch=1, rank_seed=seed, iteration=iteration)


def draw_with(masker: DrawsMasks, context: MaskContext, seed: int, iteration: int, epoch: int = 0) -> Tensor:
    """The mask of one iteration: (B, h, w) bool.

    Args:
        masker: any; its progress is set.
        context: what it looks at.
        seed: stands for the run and its rank.
        iteration: which draw.
        epoch: for maskers that change over a run, from 0.
    """
    masker.set_progress(progress_at(seed, iteration, epoch))
    return masker(context)


def measure_masker(
    masker: DrawsMasks, seen: Sequence[MaskContext], seed: int, draws: int, epoch: int = 0, share: float = 0.1
) -> MaskSummary:
    """Means over the images of several batches and over several draws for each.

    A masker may draw once for a whole batch (AttMask's ratio), so many small batches say more than a few large ones.

    Args:
        masker: as configured, images that it leaves whole included.
        seen: batches with scores; its mean over heads is the importance.
        seed: see :func:`draw_with`.
        draws: how often each batch is masked.
        epoch: see :func:`draw_with`.
        share: see :func:`mstkit.analysis.mask_statistics.top_attention_hidden`.
    """
    masks, importance = [], []
    for draw in range(draws):
        for index, context in enumerate(seen):
            mask = draw_with(masker, context, seed, draw * len(seen) + index, epoch)
            masks.append(mask.cpu())
            importance.append(importance_map(context).cpu())
    return summarize(torch.cat(masks), torch.cat(importance), share)


def draw_until_masked(
    masker: DrawsMasks, context: MaskContext, seed: int, epoch: int = 0, tries: int = 64
) -> tuple[Tensor, Tensor]:
    """A draw for each image that hides something in it, taken from as few iterations as that needs.

    Args:
        masker: any.
        context: of B images.
        seed: see :func:`draw_with`.
        epoch: see :func:`draw_with`.
        tries: iterations after which an image stays whole.

    Returns:
        (B, h, w) bool, and (B,) bool: which images are masked.
    """
    shown = draw_with(masker, context, seed, 0, epoch)
    masked = shown.flatten(1).any(dim=1)
    for iteration in range(1, tries):
        if masked.all():
            break
        fresh = draw_with(masker, context, seed, iteration, epoch)
        shown = torch.where(masked[:, None, None], shown, fresh)
        masked = shown.flatten(1).any(dim=1)
    return shown, masked


def importance_map(context: MaskContext) -> Tensor:
    """The attention that each patch receives, mean over heads: (B, h, w) float32."""
    if context.scores is None:
        raise ValueError('the context has no scores: attention was not asked for')
    return context.scores.float().mean(dim=1).view(-1, *context.grid)
