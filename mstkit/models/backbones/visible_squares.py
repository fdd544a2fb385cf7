"""A Swin that encodes visible patches alone, where one patch of each 2 x 2 at most is visible (UM-MAE)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mstkit.errors import UsageError
from mstkit.models.backbones.masked_backbone import MaskedBackbone, expand_mask
from mstkit.structures import VisibleOutput
from mstkit.utils.visible_places import visible_places


class VisibleSquares(MaskedBackbone):
    """Mixin of :class:`MaskedSwinTransformer` with :meth:`forward_visible`.

    Windows need a whole map. If each square of 2×2 patches has one visible patch, the visible ones are a map of half
    the side themselves, a quarter of the work: uniform masking (UM-MAE, Li et al., arXiv 2205.10063). A square without
    a visible patch, from UM-MAE's secondary masking, has a [MASK] embedding in its place on that map. A patch is here a
    token of the last stage, 32 px wide, with all that a Swin's first stages make of it; UM-MAE's are 16 px wide, and
    four of them share a token.
    """

    encodes_squares = True

    if TYPE_CHECKING:  # what the Swin brings
        patch_embed: Any

        def _with_positions(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor: ...
        def _to_last_stage(self, tokens: Tensor, grid: tuple[int, int]) -> tuple[Tensor, tuple[int, int]]: ...
        def _last_stage(self, tokens: Tensor, grid: tuple[int, int], layers: int) -> tuple[Tensor, list[Tensor]]: ...

    def forward_visible(
        self,
        images: Tensor,
        mask: Tensor,
        layers: int = 0,
        visibility: Tensor | None = None,
        mask_token: Tensor | None = None,
    ) -> VisibleOutput:
        """See :meth:`MaskedBackbone.forward_visible`; without hidden patches the whole grid is encoded.

        Raises:
            UsageError: a mask that leaves two patches of a square of 2×2 visible; a grid with an odd side; an image
                without visible patches.
        """
        tokens, fine = self.patch_embed(images)  # (B, L', C)
        grid = self.grid_of(images)
        hidden = expand_mask(mask, grid)  # (B, h, w)
        tokens = self.hide(self._with_positions(tokens, fine), fine, None, None, visibility)
        places, present = visible_places(hidden.flatten(1), class_token=False)  # (B, V)
        order = places
        if present is not None or places.shape[1] < grid[0] * grid[1]:
            self._check_squares(hidden, fine)
            tokens, fine = compacted(tokens, fine, hidden, mask_token)
            row, column = places // grid[1], places % grid[1]
            order = (row // 2) * (grid[1] // 2) + column // 2
        last, found = self._last_stage(*self._to_last_stage(tokens, fine), layers)

        def in_place(made: Tensor) -> Tensor:
            made = made.gather(1, order.unsqueeze(-1).expand(-1, -1, made.shape[-1]))
            return made if present is None else made.masked_fill(~present.unsqueeze(-1), 0.0)

        patches = in_place(last)
        counts = (~hidden).sum(dim=(1, 2)).to(patches.dtype)
        if present is not None:
            places = places.masked_fill(~present, -1)
        return VisibleOutput(
            patches,
            patches.sum(dim=1) / counts.unsqueeze(1),
            places,
            grid,
            tuple(in_place(one) for one in found),
            padded=present is not None,
        )

    def _check_squares(self, hidden: Tensor, fine: tuple[int, int]) -> None:
        height, width = hidden.shape[1:]
        if height % 2 or width % 2 or fine[0] % height or fine[1] % width:
            raise UsageError(
                f'{type(self).__name__} cannot encode the visible patches alone of a grid of {height}x{width} patches, '
                f'since it needs squares of 2x2: take images of a multiple of {2 * self.stride} px'
            )
        visible = (~hidden).unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).sum(dim=(2, 4))
        if bool((visible > 1).any()):
            raise UsageError(
                f'{type(self).__name__} can encode visible patches alone only where at most one of each 2x2 is '
                'visible, and a mask leaves more: take UniformMasker, a method with mask tokens (SimMIM, iBOT, MST), '
                'or MaskedVisionTransformer'
            )


def compacted(
    tokens: Tensor, fine: tuple[int, int], hidden: Tensor, mask_token: Tensor | None
) -> tuple[Tensor, tuple[int, int]]:
    """The embeddings of the visible patch of each square of 2×2, as a map of half the side.

    Args:
        tokens: (B, L', C), on the grid ``fine``, which has s×s of them in each patch.
        fine: (s h, s w).
        hidden: (B, h, w) bool, h and w even, at most one False in each 2×2.
        mask_token: (C,), for the squares without a visible patch; None for zeros.

    Returns:
        (B, L' / 4, C), row-major, and its grid (s h / 2, s w / 2).
    """
    batch, (height, width), side = len(tokens), hidden.shape[1:], fine[0] // hidden.shape[1]
    down, across = height // 2, width // 2
    visible = (~hidden).view(batch, down, 2, across, 2).transpose(2, 3).flatten(3)  # (B, h/2, w/2, 4)
    # (B, h/2, 2, s, w/2, 2, s, C) -> (B, h/2, w/2, 2, 2, s, s, C)
    cut = tokens.view(batch, down, 2, side, across, 2, side, -1).permute(0, 1, 4, 2, 5, 3, 6, 7).flatten(3, 4)
    which = visible.byte().argmax(dim=3).view(batch, down, across, 1, 1, 1, 1)
    kept = cut.gather(3, which.expand(-1, -1, -1, 1, *cut.shape[4:])).squeeze(3)  # (B, h/2, w/2, s, s, C)
    gap = ~visible.any(dim=3).view(batch, down, across, 1, 1, 1)
    token = torch.zeros_like(tokens[0, 0]) if mask_token is None else mask_token.to(tokens.dtype)
    kept = torch.where(gap, token, kept)
    grid = (down * side, across * side)
    return kept.transpose(2, 3).reshape(batch, grid[0] * grid[1], -1), grid
