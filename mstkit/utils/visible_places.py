"""The patches of each image that are left when others are left out, as a padded batch."""

from __future__ import annotations

import torch
from torch import Tensor

from mstkit.errors import UsageError


def visible_places(hidden: Tensor, class_token: bool) -> tuple[Tensor, Tensor | None]:
    """Finds the visible patches of each image.

    Args:
        hidden: (B, L) bool.
        class_token: whether the backbone has one.

    Returns:
        (B, V) int64, indices of visible patches, ascending, V the largest number of an image; and (B, V) bool, False
        for the padding at the end of images with fewer, or None if there is no padding.

    Raises:
        UsageError: an image without visible patches if there is no class token.
    """
    counts = (~hidden).sum(dim=1)
    fewest, most = (int(count) for count in torch.stack((counts.min(), counts.max())).tolist())
    if not fewest and not class_token:
        raise UsageError(
            'all patches of an image are hidden, and a backbone without class token then has nothing to encode: '
            'use a masker that leaves a patch visible'
        )
    places = torch.argsort(hidden.byte(), dim=1, stable=True)[:, :most]
    if fewest == most:
        return places, None
    return places, torch.arange(most, device=counts.device) < counts[:, None]
