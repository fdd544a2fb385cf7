"""Draws of a masker outside of training, keyed like those of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from mstkit.analysis.masks import MaskSummary, summarise
from mstkit.structures import Progress, TokenOutput


class DrawsMasks(Protocol):
    """What a masker is to this module; see ``mstkit.models.maskers.Masker``."""

    def set_progress(self, progress: Progress) -> None:
        """Keys the randomness of the coming draw."""

    def __call__(self, tokens: TokenOutput, /) -> Tensor:
        """Gives (B, h, w) bool."""


def progress_at(seed: int, iteration: int, epoch: int = 0) -> Progress:
    """A moment of a run with one step per epoch; see :func:`draw_with`."""
    return Progress(step=epoch, total_steps=epoch + 1, steps_per_epoch=1, rank_seed=seed, iteration=iteration)


def draw_with(masker: DrawsMasks, tokens: TokenOutput, seed: int, iteration: int, epoch: int = 0) -> Tensor:
    """The mask of one iteration: (B, h, w) bool.

    Args:
        masker: any; its progress is set.
        tokens: what it looks at.
        seed: stands for the run and its rank.
        iteration: which draw.
        epoch: for maskers that change over a run, from 0.
    """
    masker.set_progress(progress_at(seed, iteration, epoch))
    return masker(tokens)


def measure_masker(
    masker: DrawsMasks, seen: Sequence[TokenOutput], seed: int, draws: int, epoch: int = 0, share: float = 0.1
) -> MaskSummary:
    """Means over the images of several batches and over several draws for each.

    A masker may draw once for a whole batch (AttMask's ratio), so many small batches say more than a few large ones.

    Args:
        masker: as configured, pictures that it leaves whole included.
        seen: batches with attention; its mean over heads is the importance.
        seed: see :func:`draw_with`.
        draws: how often each batch is masked.
        epoch: see :func:`draw_with`.
        share: see :func:`mstkit.analysis.masks.top_attention_hidden`.
    """
    masks, importance = [], []
    for draw in range(draws):
        for index, tokens in enumerate(seen):
            mask = draw_with(masker, tokens, seed, draw * len(seen) + index, epoch)
            masks.append(mask.cpu())
            importance.append(importance_map(tokens).cpu())
    return summarise(torch.cat(masks), torch.cat(importance), share)


def draw_until_masked(
    masker: DrawsMasks, tokens: TokenOutput, seed: int, epoch: int = 0, tries: int = 64
) -> tuple[Tensor, Tensor]:
    """A draw for each image that hides something in it, taken from as few iterations as that needs.

    Args:
        masker: any.
        tokens: of B images.
        seed: see :func:`draw_with`.
        epoch: see :func:`draw_with`.
        tries: iterations after which an image stays whole.

    Returns:
        (B, h, w) bool, and (B,) bool: which images are masked.
    """
    shown = draw_with(masker, tokens, seed, 0, epoch)
    masked = shown.flatten(1).any(dim=1)
    for iteration in range(1, tries):
        if masked.all():
            break
        fresh = draw_with(masker, tokens, seed, iteration, epoch)
        shown = torch.where(masked[:, None, None], shown, fresh)
        masked = shown.flatten(1).any(dim=1)
    return shown, masked


def importance_map(tokens: TokenOutput) -> Tensor:
    """The attention that each patch receives, mean over heads: (B, h, w) float32."""
    if tokens.attention is None:
        raise ValueError('the tokens have no attention')
    return tokens.attention.float().mean(dim=1).view(-1, *tokens.grid)
