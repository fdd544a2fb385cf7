"""Hides patches of images by painting them with a color."""

from __future__ import annotations

import torch
from torch import Tensor

from mstkit.utils.checks import check_probability


def hide_tokens(images: Tensor, order: Tensor, ratio: float, patch: tuple[int, int], fill: Tensor) -> Tensor:
    """Paints the first patches of a given order with a color (AttMask, arXiv 2203.12719, figure "masked ImageNet").

    Args:
        images: (B, C, H, W); not changed.
        order: (B, L) int64, patch indices (row-major) of each image in the order of hiding.
        ratio: share of the L patches to hide, from 0 to 1; int(ratio * L) of them are hidden, as in AttMask's code.
        patch: height and width of a patch in pixels; they divide H and W.
        fill: (C,), the color, normalized like the images.

    Returns:
        (B, C, H, W).

    Raises:
        UsageError: the ratio is out of range.
        ValueError: the shapes do not fit each other.
    """
    check_probability('the share of hidden patches', ratio)
    (height, width), (rows, columns) = images.shape[-2:], (images.shape[2] // patch[0], images.shape[3] // patch[1])
    if (rows * patch[0], columns * patch[1]) != (height, width) or order.shape != (len(images), rows * columns):
        raise ValueError(f'images {tuple(images.shape)}, patches of {patch} and an order {tuple(order.shape)}')
    hidden = torch.zeros(order.shape, dtype=torch.bool, device=images.device)
    hidden.scatter_(1, order[:, : int(ratio * order.shape[1])].to(images.device), True)
    mask = hidden.view(-1, 1, rows, columns).repeat_interleave(patch[0], 2).repeat_interleave(patch[1], 3)
    return torch.where(mask, fill.to(images).view(1, -1, 1, 1), images)


def random_orders(indices: list[int], length: int, seed: int) -> Tensor:
    """Random patch orders (len(indices), length), each determined by the seed and the image's index only."""
    generator = torch.Generator()
    return torch.stack(
        [torch.randperm(length, generator=generator.manual_seed(seed * 1_000_003 + index)) for index in indices]
    )
