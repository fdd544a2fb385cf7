"""Base class of the backbones that can be pre-trained with masks."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from mstkit.errors import UsageError
from mstkit.structures import Read, TokenOutput, VisibleOutput
from mstkit.utils.checks import check_count

Backbone = TypeVar('Backbone', bound='MaskedBackbone')


def expand_mask(mask: Tensor, grid: tuple[int, int]) -> Tensor:
    """Repeats a mask of a coarse grid onto a finer one.

    Args:
        mask: (B, h, w), bool, or visibilities.
        grid: (H, W), whole multiples of (h, w).

    Returns:
        (B, H, W) of the same kind; every cell of the coarse grid becomes a block of H/h × W/w cells.

    Raises:
        UsageError: if the finer grid is not a multiple of the coarser one.
    """
    height, width = mask.shape[-2:]
    if (height, width) == tuple(grid):
        return mask
    if grid[0] % height or grid[1] % width:
        raise UsageError(
            f'a mask of {height}x{width} cells does not fit a grid of {grid[0]}x{grid[1]} patches: '
            'the grid must be a whole multiple of the mask'
        )
    return mask.repeat_interleave(grid[0] // height, -2).repeat_interleave(grid[1] // width, -1)


def inner_layers(layers: int) -> dict[str, Any]:
    """The argument that asks for inner layers; none for none, since a backbone of one's own need not know of them."""
    return dict(layers=layers) if layers else {}


def faded(visibility: Tensor | None) -> dict[str, Any]:
    """The argument that fades patches; none for none, as :func:`inner_layers`."""
    return {} if visibility is None else dict(visibility=visibility)


class MaskedBackbone:
    """Mixin that adds masked input and token output to a backbone of mmpretrain's.

    A subclass sets the attributes below and implements :meth:`forward_tokens`. It adds no parameters, so that its state
    dict has exactly mmpretrain's keys; the learned [MASK] embedding belongs to the algorithm.

    Attributes:
        embedding_dims: channels of the patch embedding, to which the mask applies.
        feature_dims: C of :class:`TokenOutput`.
        stride: pixels of the input per patch token of the output.
        num_extra_tokens: mmpretrain's name of the number of class tokens, 0 or 1; with 1, ``pooled`` is that token.
        attention_heads: N of the attention of its last block.
        provides_attention: whether ``forward_tokens(return_attention=True)`` is supported.
        attention_scores: names of the scores that ``forward_tokens(return_attention=NAME)`` supports.
        encodes_visible: whether it can encode the visible patches alone (:meth:`forward_visible`), of any mask.
        encodes_squares: whether it can where each square of 2×2 patches of its grid has at most one visible patch.
    """

    embedding_dims: int
    feature_dims: int
    stride: int
    num_extra_tokens: int = 0
    attention_heads: int = 1
    provides_attention: ClassVar[bool] = True
    attention_scores: ClassVar[Collection[str]] = ('class_token',)
    encodes_visible: ClassVar[bool] = False
    encodes_squares: ClassVar[bool] = False

    def forward_tokens(
        self,
        images: Tensor,
        mask: Tensor | None = None,
        return_attention: bool | str = False,
        mask_token: Tensor | None = None,
        attention_layer: int = -1,
        read: Read = 'all',
        layers: int = 0,
        visibility: Tensor | None = None,
    ) -> TokenOutput:
        """Encodes images, with hidden patches replaced by the [MASK] embedding.

        Args:
            images: (B, 3, H, W), normalized.
            mask: (B, h, w) bool, True = hidden, on this backbone's own grid or a coarser one that divides it.
            return_attention: whether to fill in ``attention`` of the output: True for the attention of the class token,
                or the name of another score in :attr:`attention_scores`.
            mask_token: (embedding_dims,) [MASK] embedding of hidden patches, put in place after the patch projection
                and before positions are added (MST alg. 1). None for zeros.
            attention_layer: the block whose attention is returned, from the end; see :meth:`attention_layers`.
            read: the output tokens that the caller uses. A backbone may skip the computation of other patch tokens and
                return zeros for them.
            layers: how many of the last blocks' outputs to return as ``layers`` of the output, at most
                :meth:`layer_count`, with their class tokens; these are computed for all patches, whatever ``read`` is.
            visibility: (B, h, w) float in [0, 1], on a grid as the mask's: the embedding x of a patch that is not
                hidden becomes v * x + (1 - v) * ``mask_token``, with a gradient to v.
        """
        raise NotImplementedError(f'{type(self).__name__} does not implement forward_tokens()')

    def forward_visible(
        self,
        images: Tensor,
        mask: Tensor,
        layers: int = 0,
        visibility: Tensor | None = None,
        mask_token: Tensor | None = None,
    ) -> VisibleOutput:
        """Encodes the visible patches alone, each with its own position (MAE, He et al., CVPR 2022, section 3).

        If images have different numbers of visible patches, shorter ones are padded. Padding is not attended to, so
        that the result for an image does not depend on the others.

        Args:
            images: (B, 3, H, W), normalized.
            mask: (B, h, w) bool, True = hidden, on this backbone's own grid or a coarser one that divides it.
            layers: how many of the last blocks' outputs to return as ``layers`` of the output, see
                :meth:`forward_tokens`.
            visibility: (B, h, w) float in [0, 1], on a grid as the mask's, by which the embedding of a visible patch,
                with its position, is multiplied (CL-MAE, Madan et al., WACV 2024), with a gradient to it.
            mask_token: (embedding_dims,) for the squares of 2×2 without a visible patch, if the backbone is one that
                encodes squares; others do not take it.

        Raises:
            UsageError: a backbone that cannot encode visible patches alone; an image without visible patches if the
                backbone has no class token.
        """
        raise UsageError(
            f'{type(self).__name__} cannot encode visible patches only, since its windows need the whole grid: take a '
            'method with mask tokens (SimMIM, iBOT, MST), or MaskedVisionTransformer'
        )

    def forward_layers(self, images: Tensor, count: int, norm: bool = True) -> list[Tensor]:
        """The patch tokens of unmasked images after each of the last ``count`` blocks.

        Args:
            images: (B, 3, H, W), normalized.
            count: number of blocks, from the end; for a Swin, of its last stage.
            norm: whether to apply the final norm to the output of each block, as in iBOT's evaluation.

        Returns:
            ``count`` tensors (B, L, C), the last block's last.

        Raises:
            UsageError: a ``count`` larger than the number of blocks.
        """
        raise NotImplementedError(f'{type(self).__name__} does not implement forward_layers()')

    def patch_embeddings(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """The embeddings of unmasked patches with their positions, before the first block.

        Args:
            images: (B, 3, H, W), normalized.

        Returns:
            (B, L, ``embedding_dims``), row-major, and their grid (h, w): that of the mask, or a multiple of it.
        """
        raise NotImplementedError(f'{type(self).__name__} does not implement patch_embeddings()')

    def layer_count(self) -> int:
        """Number of blocks, counted from the end, that work on the tokens of the output (of a Swin, the last stage)."""
        raise NotImplementedError(f'{type(self).__name__} does not implement layer_count()')

    def blocks_back_to(self, layer: int, name: str) -> int:
        """How many of the last blocks' outputs (``layers`` of the output) are needed for that of one block.

        Args:
            layer: the block, 1 for the first or -1 for the last; of a Swin, of those of the last stage.
            name: of the argument that names the block, for messages.

        Returns:
            1 for the last block, up to :meth:`layer_count`.

        Raises:
            UsageError: a block that does not exist.
        """
        if check_count(name, layer, -1000, 1000) == -1:
            return 1  # a backbone without inner layers has this one
        count = self.layer_count()
        if layer == 0 or not -count <= layer <= count:
            raise UsageError(
                f'{name} is {layer}, and {type(self).__name__} has {count} blocks whose output is on its last grid: '
                f'give 1 to {count}, or -1 to -{count} counted from the end'
            )
        return -layer if layer < 0 else count + 1 - layer

    def _check_layers(self, count: int, blocks: int) -> int:
        """The index of the first of the last ``count`` blocks. Raises UsageError."""
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= blocks:
            raise UsageError(f'{type(self).__name__}: layers={count!r}, but its tokens come from 1 to {blocks} blocks')
        return blocks - count

    def grid_of(self, images: Tensor) -> tuple[int, int]:
        """(h, w) of the patch tokens of images (B, 3, H, W), which is the grid of their masks."""
        height, width = images.shape[-2:]
        return height // self.stride, width // self.stride

    def built_grid(self) -> tuple[int, int] | None:
        """The grid of the masks (h, w) for images of the size that it was built for; None if it has no such size."""
        return None

    def train(self: Backbone, mode: bool = True) -> Backbone:
        """Like any module's ``train``; returns self, where mmpretrain's returns None."""
        super().train(mode)  # type: ignore[misc]
        return self

    def check_image_size(self, size: int, masked: bool, squares: bool = False) -> None:
        """Refuses an image size that is not a multiple of the patch size or stride.

        Args:
            size: side of the square view in pixels.
            masked: whether views of this size are masked, so that the mask has to fit the grid.
            squares: whether the grid is divided into squares of 2×2 patches.

        Raises:
            UsageError: naming the size and the nearest ones that fit.
        """
        unit = self._size_unit(masked) * (2 if squares else 1)
        if size % unit:
            below, above = size - size % unit, size - size % unit + unit
            fits = f'{above}' if below == 0 else f'{below} or {above}'
            raise UsageError(
                f'a view of {size} px is not divisible by {unit} px, as {type(self).__name__} needs; use {fits} px'
            )

    def attention_layers(self, size: int) -> int:
        """Number of blocks, counted from the end, whose attention covers the whole view and so can guide a masker.

        Args:
            size: side of the square view in pixels.
        """
        raise NotImplementedError(f'{type(self).__name__} does not implement attention_layers()')

    def check_attention_layer(self, layer: int, size: int) -> None:
        """Refuses a block that does not exist or cannot guide a masker. Raises UsageError."""
        count = self.attention_layers(size)
        if not -count <= layer <= -1:
            raise UsageError(
                f'layer={layer}: {type(self).__name__} can guide a masker by the attention of its last {count} '
                f'block{"s" if count > 1 else ""} at {size} px, so layer is '
                + (f'one of -{count} to -1' if count > 1 else '-1')
            )

    def _size_unit(self, masked: bool) -> int:
        return self.stride

    @staticmethod
    def hide(
        tokens: Tensor,
        grid: tuple[int, int],
        mask: Tensor | None,
        mask_token: Tensor | None,
        visibility: Tensor | None = None,
    ) -> Tensor:
        """Replaces hidden patch embeddings, and fades others.

        Args:
            tokens: (B, L, C) patch embeddings, without position.
            grid: (h, w) of the tokens.
            mask: (B, h', w') bool or None.
            mask_token: (C,) or None for zeros.
            visibility: (B, h', w') float or None, see :meth:`forward_tokens`.

        Returns:
            (B, L, C).
        """
        token = None if mask_token is None else mask_token.to(tokens.dtype)
        if visibility is not None:
            seen = expand_mask(visibility, grid).flatten(1).unsqueeze(-1).to(tokens.dtype)
            tokens = tokens * seen if token is None else tokens * seen + token * (1 - seen)
        if mask is None:
            return tokens
        hidden = expand_mask(mask, grid).flatten(1).unsqueeze(-1)
        return tokens.masked_fill(hidden, 0.0) if token is None else torch.where(hidden, token, tokens)
