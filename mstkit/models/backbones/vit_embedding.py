"""What enters the first layer of a ViT: patch embeddings, hidden, faded or left out, and the tokens before them."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from mstkit.models.backbones.masked_backbone import MaskedBackbone, expand_mask
from mstkit.models.backbones.vit_positions import Grid, ViTPositions
from mstkit.utils.visible_places import visible_places


class VisibleTokens(NamedTuple):
    """The first layer's input of an encoder of visible patches.

    Attributes:
        tokens: (B, E + R + V, C).
        grid: (h, w) of all patches.
        places: (B, V) int64, the patches that the last V tokens are of; of padding, any.
        present: (B, V) bool, False for padding; None if there is none.
        counts: (B, 1), visible patches of each image.
    """

    tokens: Tensor
    grid: Grid
    places: Tensor
    present: Tensor | None
    counts: Tensor

    def real(self) -> Tensor | None:
        """``present`` of all tokens, (B, E + R + V)."""
        extra = self.tokens.shape[1] - self.places.shape[1]
        return None if self.present is None else F.pad(self.present, (extra, 0), value=True)


class ViTEmbedding(ViTPositions):
    """Mixin of :class:`MaskedVisionTransformer`: its first layer's input, with and without hidden patches."""

    patch_embed: Any
    cls_token: Any  # a parameter, or None
    register_tokens: Tensor
    drop_after_pos: Any
    pre_norm: Any

    def patch_embeddings(self, images: Tensor) -> tuple[Tensor, Grid]:
        """See :meth:`MaskedBackbone.patch_embeddings`."""
        return self._placed(images)

    def _placed(self, images: Tensor) -> tuple[Tensor, Grid]:
        # Inside, not by the public name: when weights are sharded, that one gathers and lets go of the backbone's.
        tokens, grid = self.patch_embed(images)
        positions = self._positions_of(grid)
        return tokens if positions is None else tokens + positions[:, self.num_extra_tokens :], grid

    def _embed(
        self,
        images: Tensor,
        mask: Tensor | None = None,
        mask_token: Tensor | None = None,
        visibility: Tensor | None = None,
    ) -> tuple[Tensor, Grid]:
        """The first layer's input, (B, E + R + L, C), and the grid (h, w)."""
        tokens, (height, width) = self.patch_embed(images)
        tokens = MaskedBackbone.hide(tokens, (height, width), mask, mask_token, visibility)
        if self.cls_token is not None:
            tokens = torch.cat((self.cls_token.expand(len(tokens), -1, -1), tokens), dim=1)
        positions = self._positions_of((height, width))
        tokens = tokens if positions is None else tokens + positions
        return self.pre_norm(self.drop_after_pos(self._with_registers(tokens))), (height, width)

    def _embed_visible(self, images: Tensor, mask: Tensor, visibility: Tensor | None) -> VisibleTokens:
        """The first layer's input for visible patches alone; their embeddings with positions times ``visibility``."""
        tokens, grid = self._placed(images)  # (B, L, C)
        hidden = expand_mask(mask, grid).flatten(1)
        places, present = visible_places(hidden, self.cls_token is not None)
        tokens = MaskedBackbone.hide(tokens, grid, None, None, visibility)
        tokens = tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[-1]))
        if self.cls_token is not None:
            positions = self._positions_of(grid)
            first = self.cls_token if positions is None else self.cls_token + positions[:, :1]
            tokens = torch.cat((first.expand(len(tokens), -1, -1), tokens), dim=1)
        tokens = self.pre_norm(self.drop_after_pos(self._with_registers(tokens)))
        return VisibleTokens(tokens, grid, places, present, (~hidden).sum(dim=1, keepdim=True))

    def _with_registers(self, tokens: Tensor) -> Tensor:
        """Inserts the registers between class token and patches: (B, E + L, C) to (B, E + R + L, C)."""
        if not self.num_registers:
            return tokens
        first, patches = tokens[:, : self.num_extra_tokens], tokens[:, self.num_extra_tokens :]
        return torch.cat((first, self.register_tokens.expand(len(tokens), -1, -1), patches), dim=1)
