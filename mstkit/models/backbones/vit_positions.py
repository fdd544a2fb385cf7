"""Position encodings of a ViT: absolute position embeddings, relative position biases and rotary positions."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from mstkit.errors import UsageError
from mstkit.utils.checks import check_number, check_one_of
from mstkit.utils.position_interpolation import resize_positions
from mstkit.utils.relative_positions import TokenPairs, fit_bias_tables, table_length, token_pairs
from mstkit.utils.rotary_positions import ROTARY_BASE, Rotation, axial_rotation
from mstkit.utils.sincos_positions import sincos_positions

Grid = tuple[int, int]
POSITIONS = ('learned', 'sincos', 'rotary', 'none')


class SharedPositionBias(nn.Module):
    """The relative position bias table that all layers share, named as in mmpretrain and BEiT; see `TokenPairs`."""

    def __init__(self, length: int, heads: int) -> None:
        super().__init__()
        self.relative_position_bias_table = nn.Parameter(torch.zeros(length, heads))


class ViTPositions:
    """Mixin of :class:`MaskedVisionTransformer`, where the arguments are described.

    Attributes:
        positions: 'learned', 'sincos', 'rotary' or 'none'.
        rotary_base: of rotary positions; None for other ones.
        relative_positions: 'shared', 'per_layer' or None.
        table_grid: (h, w) of the patches that the tables of relative position biases are made for.
    """

    pos_embed: Any  # a parameter, or None
    patch_resolution: Grid
    interpolate_mode: str
    interpolate_offset: float
    num_extra_tokens: int
    num_registers: int
    embed_dims: int
    frozen_stages: int
    layers: Any

    def _set_positions(self, positions: str | None, relative_positions: str | None, rotary_base: float) -> None:
        """Creates absolute positions and bias tables; called after ``self.layers`` exist."""
        # On the command line, positions=none is None.
        positions = 'none' if positions is None else positions
        self.positions = check_one_of('MaskedVisionTransformer: positions', positions, POSITIONS)
        if positions == 'sincos':
            if self.embed_dims % 4:
                raise UsageError(f"positions='sincos' need a multiple of 4 channels, not embed_dims={self.embed_dims}")
            self.pos_embed.requires_grad_(False)
            self._fix_positions()
        elif positions in ('none', 'rotary'):
            self.pos_embed = None
        self.relative_positions = check_one_of(
            'MaskedVisionTransformer: relative_positions', relative_positions, (None, 'shared', 'per_layer')
        )
        self.rotary_base = self._checked_rotary_base(rotary_base)
        if relative_positions is None:
            return
        self.table_grid = (int(self.patch_resolution[0]), int(self.patch_resolution[1]))
        class_token = self.num_extra_tokens > 0
        if relative_positions == 'per_layer':
            for layer in self.layers:
                layer.attn.add_relative_positions(self.table_grid, class_token)
        else:
            heads = self.layers[0].attn.num_heads
            self.rel_pos_bias = SharedPositionBias(table_length(self.table_grid, class_token), heads)
            self.rel_pos_bias.requires_grad_(self.frozen_stages <= 0)  # frozen where absolute positions are
        self._register_load_state_dict_pre_hook(self._prepare_bias_tables)  # type: ignore[attr-defined]

    def _checked_rotary_base(self, base: float) -> float | None:
        base = check_number('MaskedVisionTransformer: rotary_base', base, above=0)
        if self.positions != 'rotary':
            if base != ROTARY_BASE:
                raise UsageError(f"rotary_base={base:g} is of positions='rotary', not of {self.positions!r}")
            return None
        if self.relative_positions is not None:
            raise UsageError(
                f"positions='rotary' and relative_positions={self.relative_positions!r} are two ways to tell where "
                'patches lie to each other: leave one of them out'
            )
        channels = self.layers[0].attn.head_dims
        if channels % 4:
            raise UsageError(f"positions='rotary' need a multiple of 4 channels of each head, not {channels}")
        return base

    @torch.no_grad()
    def _fix_positions(self) -> None:
        """Sets sine-cosine positions for the patches and zeros for the class token, as in MAE."""
        self.pos_embed.zero_()
        self.pos_embed[:, self.num_extra_tokens :] = sincos_positions(self.patch_resolution, self.embed_dims)

    def _placed_as_mmpretrains(self) -> bool:
        """Whether mmpretrain's own ViT has the same position encoding."""
        return self.pos_embed is not None and self.relative_positions is None

    def _positions_of(self, grid: Grid) -> Tensor | None:
        """Absolute position embeddings of class token and patches for a grid, (1, E + L, C), or None."""
        if self.pos_embed is None:
            return None
        return self._resized(self.pos_embed, self.patch_resolution, grid)

    def _resized(self, positions: Tensor, source: Grid, grid: Grid) -> Tensor:
        mode, offset = self.interpolate_mode, self.interpolate_offset
        return resize_positions(positions, source, grid, self.num_extra_tokens, mode, offset)

    def _relative(
        self, grid: Grid, device: torch.device, places: Tensor | None = None
    ) -> Tensor | TokenPairs | Rotation | None:
        """The argument ``relative`` of the layers.

        Args:
            grid: (h, w) of the patches.
            device: of the tokens.
            places: (B, V) int64, indices of the visible patches; None for all patches.

        Returns:
            Shared biases (N, T, T) or (B, N, T, T); or the token pairs, if every layer has its own table; or the
            rotation of queries and keys; or None.
        """
        if self.rotary_base is not None:
            channels = self.layers[0].attn.head_dims
            rotation = axial_rotation((int(grid[0]), int(grid[1])), channels, self.rotary_base, device)
            return rotation if places is None else rotation.of_patches(places)
        if self.relative_positions is None:
            return None
        pairs = token_pairs((int(grid[0]), int(grid[1])), self.num_extra_tokens > 0, self.num_registers, device)
        if places is not None:
            first = self.num_extra_tokens + self.num_registers
            before = torch.arange(first, device=device).expand(len(places), -1)
            pairs = pairs.of_tokens(torch.cat((before, places + first), dim=1))
        if self.relative_positions == 'per_layer':
            return pairs
        return pairs.bias(self.rel_pos_bias.relative_position_bias_table, self.table_grid)

    def _prepare_pos_embed(self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **kwargs: Any) -> None:
        """mmpretrain's, which resizes loaded position embeddings; here with ``interpolate_offset``."""
        found = state_dict.get(f'{prefix}pos_embed')
        if self.pos_embed is None:
            return
        if found is not None and self.interpolate_offset:
            side = math.isqrt(max(found.shape[1] - self.num_extra_tokens, 0))
            if side**2 == found.shape[1] - self.num_extra_tokens:
                state_dict[f'{prefix}pos_embed'] = self._resized(found, (side, side), self.patch_resolution)
        super()._prepare_pos_embed(state_dict, prefix, *args, **kwargs)  # type: ignore[misc]

    def _prepare_bias_tables(self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **kwargs: Any) -> None:
        """Adapts loaded relative position bias tables to this network's grid and layers."""
        own = dict(self.named_parameters())  # type: ignore[attr-defined]
        fit_bias_tables(state_dict, own, self.table_grid, self.num_extra_tokens > 0, prefix)
