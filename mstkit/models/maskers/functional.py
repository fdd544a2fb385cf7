"""Masks as pure functions of tensors; the modules beside this file add a configuration and a source of randomness."""

from __future__ import annotations

import torch
from torch import Generator, Tensor


def importance_of(attention: Tensor, exclude_cls_key: bool = False) -> Tensor:
    """How much each patch matters: its attention, mean over heads (MST eq. 4).

    Args:
        attention: (B, N, L), per head.
        exclude_cls_key: the paper's text takes the softmax over the patches alone, its algorithm 1 over the patches
            and the class token; the two differ by a factor per head, so the mean over heads can rank differently.
            True renormalises each head to the patches alone.

    Returns:
        (B, L) float32.
    """
    attention = attention.float()
    if exclude_cls_key:
        attention = attention / attention.sum(dim=-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    return attention.mean(dim=1)


def lowest(importance: Tensor, count: int) -> Tensor:
    """Marks the ``count`` least important patches of each image; of equals, those that come first.

    Args:
        importance: (B, L).
        count: 0 to L.

    Returns:
        (B, L) bool with exactly ``count`` True in each row.
    """
    order = torch.argsort(importance, dim=-1, stable=True)
    marked = torch.zeros_like(importance, dtype=torch.bool)
    return marked.scatter_(-1, order[:, :count], True)


def bernoulli(shape: tuple[int, ...], prob: float, generator: Generator, device: torch.device) -> Tensor:
    """Hides each patch by itself with the same probability (MST eq. 3).

    Returns:
        Bool tensor of the given shape.
    """
    return torch.rand(shape, generator=generator, device=device) < prob


def exactly(shape: tuple[int, ...], count: int, generator: Generator, device: torch.device) -> Tensor:
    """Hides ``count`` patches of each image, every set of that size being equally likely.

    Returns:
        (B, L) bool with exactly ``count`` True in each row.
    """
    return lowest(torch.rand(shape, generator=generator, device=device), count)
