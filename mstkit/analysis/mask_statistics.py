"""Statistics of masks: the shares of patches and attention that they hide, how connected they are, and their border.

Masks are (B, h, w) bool, True = hidden; importance is (B, h, w), the attention that each patch receives, not negative.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Connectedness(NamedTuple):
    """How connected masks are; two hidden patches that share a side belong to one component.

    Attributes:
        cohesion: (B,) float32, the mean over the hidden patches of the size of their component, as a share of all
            hidden patches: 1 for a single component, 1/n for n isolated patches. NaN if nothing is hidden.
        components: (B,) int64, the number of components.
    """

    cohesion: Tensor
    components: Tensor


class MaskSummary(NamedTuple):
    """Means over many masks. From ``hidden`` on, only masks that hide something count; NaN if there are none.

    Attributes:
        masks: number of masks.
        whole: share of masks that hide nothing.
        hidden_overall: share of hidden patches, including images in which nothing is hidden.
        hidden: share of hidden patches.
        attention_mass: share of the attention that lies on hidden patches.
        top_attention: share of the most attended patches that is hidden.
        cohesion: see :class:`Connectedness`.
        components: likewise.
        border: see :func:`border`.
        thrown: share of thrown patches, of all images; see ``Masker.throws``.
    """

    masks: int
    whole: float
    hidden_overall: float
    hidden: float
    attention_mass: float
    top_attention: float
    cohesion: float
    components: float
    border: float
    thrown: float = 0.0


def hidden_fraction(mask: Tensor) -> Tensor:
    """The share of hidden patches of each image: (B, h, w) to (B,) float32."""
    _check(mask)
    return mask.flatten(1).float().mean(dim=1)


def attention_mass_hidden(mask: Tensor, importance: Tensor) -> Tensor:
    """The share of an image's attention that lies on its hidden patches.

    For a random mask it is, on average, equal to the share of hidden patches.

    Args:
        mask: (B, h, w) bool.
        importance: (B, h, w), in any unit: it is divided by its sum over the image.

    Returns:
        (B,) float32, 0 to 1.
    """
    _check(mask, importance)
    mass = importance.flatten(1).float()
    total = mass.sum(dim=1).clamp_min(torch.finfo(torch.float32).tiny)
    return (mass * mask.flatten(1)).sum(dim=1) / total


def top_attention_hidden(mask: Tensor, importance: Tensor, share: float = 0.1) -> Tensor:
    """The share of the most attended patches that is hidden.

    Args:
        mask: (B, h, w) bool.
        importance: (B, h, w).
        share: the most attended patches are the first floor(share L), at least one; ties go to the lower index.

    Returns:
        (B,) float32, 0 to 1.
    """
    _check(mask, importance)
    if not 0 < share <= 1:
        raise ValueError(f'share is a part of the patches, above 0 and up to 1, not {share!r}')
    flat = importance.flatten(1)
    count = max(1, int(share * flat.shape[1]))
    top = torch.argsort(flat, dim=1, descending=True, stable=True)[:, :count]
    return mask.flatten(1).gather(1, top).float().mean(dim=1)


def border(mask: Tensor) -> Tensor:
    """The share of the sides between two patches of the grid that have a hidden patch here and a visible one there.

    A patch that is hidden along its border can be continued from what is seen beside it. Of a share r hidden at random
    it is 2 r (1 - r) on average. The rim of the image is no side between two patches.

    Args:
        mask: (B, h, w) bool, of two patches or more.

    Returns:
        (B,) float32, 0 to 1.
    """
    _check(mask)
    below = (mask[:, 1:] != mask[:, :-1]).flatten(1)
    beside = (mask[:, :, 1:] != mask[:, :, :-1]).flatten(1)
    return torch.cat([below, beside], dim=1).float().mean(dim=1)


def label_components(mask: Tensor) -> Tensor:
    """Numbers the 4-connected components of each mask.

    For all images at once: each hidden patch starts with its own number and takes the largest of its neighbors', until
    nothing changes. The number of rounds is the longest path through a component.

    Args:
        mask: (B, h, w) bool.

    Returns:
        (B, h, w) int64, 0 where visible; equal numbers in an image are one component. The numbers have gaps.
    """
    _check(mask)
    height, width = mask.shape[1:]
    own = torch.arange(1, height * width + 1, device=mask.device).view(height, width)
    labels = own * mask
    while True:
        around = F.pad(labels, (1, 1, 1, 1))
        above, below = around[:, :-2, 1:-1], around[:, 2:, 1:-1]
        left, right = around[:, 1:-1, :-2], around[:, 1:-1, 2:]
        spread = torch.stack([labels, above, below, left, right]).amax(dim=0) * mask
        if torch.equal(spread, labels):
            return labels
        labels = spread


def connectedness(mask: Tensor) -> Connectedness:
    """How connected each mask is: (B, h, w) bool to two tensors (B,)."""
    labels = label_components(mask).flatten(1)
    sizes = torch.zeros(len(labels), labels.shape[1] + 1, device=mask.device)
    sizes.scatter_add_(1, labels, torch.ones_like(labels, dtype=sizes.dtype))
    sizes = sizes[:, 1:]  # the first column counts the visible patches
    # A component of s patches counts s times with its size s.
    return Connectedness(sizes.square().sum(dim=1) / sizes.sum(dim=1).square(), (sizes > 0).sum(dim=1))


def summarize(mask: Tensor, importance: Tensor, share: float = 0.1) -> MaskSummary:
    """Averages all statistics of this module over masks.

    Args:
        mask: (B, h, w) bool, B at least 1.
        importance: (B, h, w).
        share: see :func:`top_attention_hidden`.
    """
    _check(mask, importance)
    if len(mask) == 0:
        raise ValueError('no masks to summarize')
    some = mask.flatten(1).any(dim=1)
    kept, weight = mask[some], importance[some]
    shape = connectedness(kept)
    return MaskSummary(
        masks=len(mask),
        whole=1 - some.float().mean().item(),
        hidden_overall=hidden_fraction(mask).mean().item(),
        hidden=hidden_fraction(kept).mean().item(),
        attention_mass=attention_mass_hidden(kept, weight).mean().item(),
        top_attention=top_attention_hidden(kept, weight, share).mean().item(),
        cohesion=shape.cohesion.mean().item(),
        components=shape.components.float().mean().item(),
        border=border(kept).mean().item(),
    )


def _check(mask: Tensor, importance: Tensor | None = None) -> None:
    if mask.dtype != torch.bool or mask.ndim != 3:
        raise ValueError(f'a mask is a bool tensor (B, h, w), not {mask.dtype} of shape {tuple(mask.shape)}')
    if importance is not None and importance.shape != mask.shape:
        raise ValueError(f'importance has shape {tuple(importance.shape)} and the mask {tuple(mask.shape)}')
