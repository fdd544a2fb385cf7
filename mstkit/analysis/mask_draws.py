"""Draws masks outside of training, with randomness keyed by seed and iteration as in a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from mstkit.analysis.mask_statistics import MaskSummary, hidden_fraction, summarize
from mstkit.structures import DrawnMask, MaskContext, Progress


class DrawsMasks(Protocol):
    """The part of a masker that this module uses; see ``mstkit.models.maskers.Masker``."""

    def set_progress(self, progress: Progress) -> None:
        """Sets the progress, which keys the randomness of the next draw."""

    def draw(self, context: MaskContext, /) -> DrawnMask:
        """Draws hidden and, where it throws, thrown patches: (B, h, w) bool each."""


def progress_at(seed: int, iteration: int, epoch: int = 0) -> Progress:
    """The progress of a run with one step per epoch; see :func:`draw_with`."""
    return Progress(step=epoch, total_steps=epoch + 1, steps_per_epoch=1, rank_seed=seed, iteration=iteration)


def draw_with(masker: DrawsMasks, context: MaskContext, seed: int, iteration: int, epoch: int = 0) -> Tensor:
    """The hidden patches of one iteration, (B, h, w) bool; arguments as in :func:`draw_all_with`."""
    return draw_all_with(masker, context, seed, iteration, epoch).hidden


def draw_all_with(masker: DrawsMasks, context: MaskContext, seed: int, iteration: int, epoch: int = 0) -> DrawnMask:
    """Hidden and thrown patches of one iteration.

    Args:
        masker: any; its progress is set.
        context: the input of the masker.
        seed: in place of the seed of a run and its rank.
        iteration: determines the draw, together with ``seed``.
        epoch: for maskers that change over a run, from 0.
    """
    masker.set_progress(progress_at(seed, iteration, epoch))
    return masker.draw(context)


def measure_masker(
    masker: DrawsMasks, seen: Sequence[MaskContext], seed: int, draws: int, epoch: int = 0, share: float = 0.1
) -> MaskSummary:
    """Statistics of masks, as means over the images of several batches and over several draws for each.

    All but ``thrown`` are of hidden patches alone; beside these, thrown ones count as visible.

    A masker may draw once for a whole batch (AttMask's ratio), so use many small batches rather than a few large ones.

    Args:
        masker: as configured; images that it does not mask count too.
        seen: batches with scores, whose mean over heads is the importance of patches.
        seed: see :func:`draw_with`.
        draws: number of draws for each batch.
        epoch: see :func:`draw_with`.
        share: see :func:`mstkit.analysis.mask_statistics.top_attention_hidden`.
    """
    masks, importance, thrown = [], [], []
    for draw in range(draws):
        for index, context in enumerate(seen):
            drawn = draw_all_with(masker, context, seed, draw * len(seen) + index, epoch)
            masks.append(drawn.hidden.cpu())
            thrown.append(torch.zeros_like(masks[-1]) if drawn.thrown is None else drawn.thrown.cpu())
            importance.append(importance_map(context).cpu())
    summary = summarize(torch.cat(masks), torch.cat(importance), share)
    return summary._replace(thrown=hidden_fraction(torch.cat(thrown)).mean().item())


def draw_until_masked(
    masker: DrawsMasks, context: MaskContext, seed: int, epoch: int = 0, tries: int = 64
) -> tuple[DrawnMask, Tensor]:
    """Draws masks until each image has one that hides a patch.

    Args:
        masker: any.
        context: of B images.
        seed: see :func:`draw_with`.
        epoch: see :func:`draw_with`.
        tries: maximum number of iterations; images without a mask after these stay unmasked.

    Returns:
        The masks, (B, h, w) bool, and (B,) bool: which images are masked.
    """
    shown = draw_all_with(masker, context, seed, 0, epoch)
    masked = shown.hidden.flatten(1).any(dim=1)
    for iteration in range(1, tries):
        if masked.all():
            break
        fresh = draw_all_with(masker, context, seed, iteration, epoch)
        keep = masked[:, None, None]
        thrown = None
        if shown.thrown is not None and fresh.thrown is not None:
            thrown = torch.where(keep, shown.thrown, fresh.thrown)
        shown = DrawnMask(torch.where(keep, shown.hidden, fresh.hidden), thrown)
        masked = shown.hidden.flatten(1).any(dim=1)
    return shown, masked


def importance_map(context: MaskContext) -> Tensor:
    """The attention that each patch receives, mean over heads: (B, h, w) float32."""
    if context.scores is None:
        raise ValueError('the context has no scores: attention was not asked for')
    return context.scores.float().mean(dim=1).view(-1, *context.grid)
