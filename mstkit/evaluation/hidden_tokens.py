"""Pictures with some of their patches painted over, and which patches a network looks at."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mstkit.errors import UsageError


def hide_tokens(images: Tensor, order: Tensor, ratio: float, patch: tuple[int, int], fill: Tensor) -> Tensor:
    """Paints over the first patches of an order (AttMask, arXiv 2203.12719, figure "masked ImageNet").

    Args:
        images: (B, C, H, W); not changed.
        order: (B, L) int64, for each image its patches (row-major), the first one to be hidden first.
        ratio: share of the L patches to hide, from 0 to 1; int(ratio * L) of them are hidden, as AttMask's code
            counts.
        patch: height and width of a patch in pixels; they divide H and W.
        fill: (C,), the colour to paint with, normalised as the images are.

    Returns:
        (B, C, H, W).

    Raises:
        UsageError: the ratio is out of range.
        ValueError: the shapes do not fit each other.
    """
    if not 0 <= ratio <= 1:
        raise UsageError(f'the share of hidden patches is {ratio!r}: it must be from 0 to 1.')
    (height, width), (rows, columns) = images.shape[-2:], (images.shape[2] // patch[0], images.shape[3] // patch[1])
    if (rows * patch[0], columns * patch[1]) != (height, width) or order.shape != (len(images), rows * columns):
        raise ValueError(f'images {tuple(images.shape)}, patches of {patch} and an order {tuple(order.shape)}')
    hidden = torch.zeros(order.shape, dtype=torch.bool, device=images.device)
    hidden.scatter_(1, order[:, : int(ratio * order.shape[1])].to(images.device), True)
    mask = hidden.view(-1, 1, rows, columns).repeat_interleave(patch[0], 2).repeat_interleave(patch[1], 3)
    return torch.where(mask, fill.to(images).view(1, -1, 1, 1), images)


def random_orders(indices: list[int], length: int, seed: int) -> Tensor:
    """A random order for each image that follows from the seed and the image's index alone, (len(indices), length)."""
    generator = torch.Generator()
    return torch.stack(
        [torch.randperm(length, generator=generator.manual_seed(seed * 1_000_003 + index)) for index in indices]
    )


def received_attention(maps: Any, images: int) -> tuple[Tensor, tuple[int, int]]:
    """How much each patch is looked at in one block, averaged over heads.

    By the class token where there is one; else by all patches of its window on average (Swin, or a ViT without one).

    Args:
        maps: attention of one block: ``weights`` (W, N, T, T), ``positions`` (T - extra, 2) or (W, T - extra, 2) as
            (y, x), ``extra``, the number of leading tokens without a position, the class token first, and ``real``
            (W, T) bool or None. The windows of one image follow each other.
        images: B, the number of images; W is a multiple of it.

    Returns:
        (B, h * w) row-major over the grid of patches, and (h, w).
    """
    weights, extra = maps.weights.float(), maps.extra
    if extra:
        received = weights[:, :, 0, extra:].mean(dim=1)
    elif maps.real is None:
        received = weights.mean(dim=(1, 2))
    else:
        asking = maps.real[:, None, :, None].to(weights)
        received = (weights * asking).sum(dim=2).mean(dim=1) / asking.sum(dim=2).clamp(min=1).mean(dim=1)
    positions = maps.positions if maps.positions.ndim == 3 else maps.positions.expand(len(weights), -1, -1)
    received, positions = received.reshape(images, -1), positions.reshape(images, received.numel() // images, 2)[0]
    if maps.real is not None:
        inside = maps.real[:, extra:].reshape(images, -1)[0]
        received, positions = received[:, inside], positions[inside]
    (ys, rows), (xs, columns) = (positions[:, axis].unique(return_inverse=True) for axis in (0, 1))
    return received[:, (rows * len(xs) + columns).argsort()], (len(ys), len(xs))
