"""The attention of patches to patches, the input of all measures of attention.

Shapes: W attention windows (the images of a batch for ViT, images times windows for Swin) · N heads · T tokens ·
P patches of a window = T without the leading tokens that have no position.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

# Added before rows are renormalized, as in cl-vs-mim (Park et al., arXiv 2305.00729): a query that gives all of its
# attention to the class token counts as attending to the patches uniformly, instead of as 0/0.
NOTHING = 1e-32


class Maps(Protocol):
    """The attention of one block for one batch; ``mstkit.networks.AttentionMaps`` is one.

    Attributes:
        block: index of the block, from 0 over the network.
        stage: index of its stage; 0 for ViT.
        weights: (W, N, T, T), softmaxed over the last axis.
        positions: (P, 2) or (W, P, 2), centers (y, x) of the patches in pixels.
        extra: leading tokens without a position.
        real: (W, T) bool, False where a token is padding; None without padding.
    """

    @property
    def block(self) -> int: ...
    @property
    def stage(self) -> int: ...
    @property
    def weights(self) -> Tensor: ...
    @property
    def positions(self) -> Tensor: ...
    @property
    def extra(self) -> int: ...
    @property
    def real(self) -> Tensor | None: ...


class PatchAttention(NamedTuple):
    """The attention between patches, without other tokens.

    Attributes:
        weights: (W, N, P, P) float32; 0 in the rows and columns of padding.
        positions: (P, 2) or (W, P, 2) float32, in pixels.
        real: (W, P) bool, False where a patch is padding.
    """

    weights: Tensor
    positions: Tensor
    real: Tensor

    @property
    def queries(self) -> int:
        """The number of queries that are not padding."""
        return int(self.real.sum())


def patch_attention(maps: Maps, renormalize: bool = True) -> PatchAttention:
    """Removes the CLS token, other tokens without a position, and padding, both as queries and as keys.

    Args:
        maps: of one block.
        renormalize: rescale each remaining row to sum to one, so that heads that attend to the CLS token can be
            compared with others; False keeps the raw attention, whose rows sum to less.

    Raises:
        ValueError: shapes that do not fit each other.
    """
    windows, _, tokens, keys = maps.weights.shape
    patches = tokens - maps.extra
    fitting = maps.positions.shape in ((patches, 2), (windows, patches, 2))
    if tokens != keys or patches < 1 or not fitting or (maps.real is not None and maps.real.shape != (windows, tokens)):
        raise ValueError(
            f'attention of shape {tuple(maps.weights.shape)} with {maps.extra} extra tokens does not fit positions '
            f'{tuple(maps.positions.shape)} and real {None if maps.real is None else tuple(maps.real.shape)}'
        )
    weights = maps.weights[:, :, maps.extra :, maps.extra :].float()
    positions = maps.positions.to(weights)
    if maps.real is None:
        real = torch.ones(windows, patches, dtype=torch.bool, device=weights.device)
    else:
        real = maps.real[:, maps.extra :]
        weights = weights.masked_fill(~real[:, None, None, :], 0)
    if renormalize and (maps.extra or maps.real is not None):
        weights = weights + NOTHING * real[:, None, None, :]
        # A window that is all padding has no keys: avoid 0/0.
        weights = weights / weights.sum(dim=-1, keepdim=True).clamp_min(NOTHING)
    if maps.real is not None:
        weights = weights.masked_fill(~real[:, None, :, None], 0)
    return PatchAttention(weights, positions, real)


def pairwise_distances(positions: Tensor) -> Tensor:
    """Euclidean distances between patches: (P, 2) to (P, P), or (W, P, 2) to (W, P, P), in the same unit."""
    return (positions.unsqueeze(-2) - positions.unsqueeze(-3)).square().sum(dim=-1).sqrt()


def distinct_windows(patches: PatchAttention) -> PatchAttention:
    """Only the first window if all windows have the same patches, as for ViT; else all windows."""
    if patches.positions.ndim == 3 or not patches.real.all():
        return patches
    return PatchAttention(patches.weights[:1], patches.positions, patches.real[:1])


def reach(patches: PatchAttention) -> Tensor:
    """Which patches a query can attend to: (W, P, P) bool.

    A shifted window of Swin at the border of the image holds patches of opposite sides, which are masked from each
    other. They are recognized by their positions: patches within a window of n rows are at most n - 1 rows apart,
    those of opposite sides farther.
    """
    positions = patches.positions.expand(*patches.real.shape, 2)
    near = patches.real[:, :, None] & patches.real[:, None, :]
    for axis in (0, 1):
        where = positions[..., axis]
        present = where[patches.real].unique()
        if len(present) < 2:
            continue
        step = present.diff().min()
        # Distinct rows (or columns) of each window; padding sorts to the end as infinity.
        order = torch.where(patches.real, where, torch.full_like(where, float('inf'))).sort(dim=1).values
        steps = (order.diff(dim=1) > 0.5 * step) & order[:, 1:].isfinite()
        extent = steps.sum(dim=1).max() * step
        near &= (where[:, :, None] - where[:, None, :]).abs() <= extent + 0.5 * step
    return near
