"""Images with some of their patches painted over."""

from __future__ import annotations

import torch
from torch import Tensor

from mstkit.utils.checks import check_probability


def hide_tokens(images: Tensor, order: Tensor, ratio: float, patch: tuple[int, int], fill: Tensor) -> Tensor:
    """Paints over the first patches of an order (AttMask, arXiv 2203.12719, figure "masked ImageNet").

    Args:
        images: (B, C, H, W); not changed.
        order: (B, L) int64, for each image its patches (row-major), the first one to be hidden first.
        ratio: share of the L patches to hide, from 0 to 1; int(ratio * L) of them are hidden, as AttMask's code
            counts.
        patch: height and width of a patch in pixels; they divide H and W.
        fill: (C,), the color to paint with, normalized as the images are.

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
    """A random order for each image that follows from the seed and the image's index alone, (len(indices), length)."""
    generator = torch.Generator()
    return torch.stack(
        [torch.randperm(length, generator=generator.manual_seed(seed * 1_000_003 + index)) for index in indices]
    )
