"""mmpretrain's attention as :class:`EncoderLayer` calls it: in parts, with biases and rotations, in less memory."""

from __future__ import annotations

import torch
from mmengine.model import BaseModule
from mmpretrain.models.utils import MultiheadAttention
from torch import Tensor, nn
from torch.nn import functional as F

from mstkit.models.attention_kernel import attend
from mstkit.models.memory_lean_linear import norm_linear
from mstkit.utils.relative_positions import Grid, TokenPairs, table_length
from mstkit.utils.rotary_positions import Rotation

QV_BIAS = 'qv_bias'  # mmpretrain's word for biases of queries and values without one of keys


class EncoderAttention(MultiheadAttention):
    """mmpretrain's attention without stochastic depth, which :class:`EncoderLayer` applies.

    Queries, keys and values are split by one ``unbind``, whose gradient is one copy instead of a sum of three.

    Args:
        attention: mmpretrain's attention, whose layers and parameters are reused.

    Attributes:
        q_bias: (C,) bias of the queries if keys have none (BEiT); None if ``qkv`` has a bias for all three.
        v_bias: likewise of the values.
        relative_position_bias_table: biases of the logits by the offset of query and key, see :class:`TokenPairs`.
        table_grid: (h, w) of the patches that the table is made for.
    """

    def __init__(self, attention: MultiheadAttention) -> None:
        BaseModule.__init__(self, attention.init_cfg)  # not mmpretrain's, which would initialize all weights again
        self.input_dims, self.embed_dims = attention.input_dims, attention.embed_dims
        self.num_heads, self.head_dims = attention.num_heads, attention.head_dims
        self.attn_drop = attention.attn_drop
        self.scaled_dot_product_attention = attend
        self.qkv, self.proj, self.proj_drop = attention.qkv, attention.proj, attention.proj_drop
        self.out_drop, self.gamma1 = attention.out_drop, attention.gamma1
        self.q_bias: nn.Parameter | None = None
        self.v_bias: nn.Parameter | None = None
        self.relative_position_bias_table: nn.Parameter | None = None
        self.table_grid: Grid = (0, 0)
        self.training = attention.training

    def add_qv_bias(self) -> None:
        """Adds a bias of zeros to queries and values; ``qkv`` must have none."""
        self.q_bias, self.v_bias = (nn.Parameter(torch.zeros(self.embed_dims)) for _ in range(2))

    def add_relative_positions(self, grid: Grid, class_token: bool) -> None:
        """Adds a table of relative position biases, zeros, for an (h, w) grid of patches."""
        self.table_grid = grid
        self.relative_position_bias_table = nn.Parameter(torch.zeros(table_length(grid, class_token), self.num_heads))

    def projection_bias(self) -> Tensor | None:
        """The bias of queries, keys and values, (3 C,); None if they have none."""
        if self.q_bias is None or self.v_bias is None:
            return self.qkv.bias
        return torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias))

    def logit_bias(self, relative: Tensor | TokenPairs | Rotation | None) -> Tensor | Rotation | None:
        """The relative position bias of the logits, (N, T, T) or (B, N, T, T); or a rotation of queries and keys.

        Args:
            relative: the bias or rotation itself, shared by all layers, or the token pairs to look up in this layer's
                table.
        """
        if not isinstance(relative, TokenPairs):
            return relative
        assert self.relative_position_bias_table is not None
        return relative.bias(self.relative_position_bias_table, self.table_grid)

    def forward(
        self,
        x: Tensor,
        first_only: bool = False,
        rows: Tensor | None = None,
        present: Tensor | None = None,
        rel_pos_bias: Tensor | Rotation | None = None,
        norm: nn.Module | None = None,
    ) -> Tensor:
        """Self-attention; arguments and shapes as in :meth:`EncoderLayer.forward`, ``rel_pos_bias`` of `logit_bias`.

        With ``norm`` it is that of ``norm(x)``, of which x alone is kept for the backward pass where that can be.
        """
        batch, length, dims = x.shape
        if norm is not None and (first_only or self.q_bias is not None):
            x, norm = norm(x), None
        dropout = self.attn_drop if self.training else 0.0
        if first_only:
            weight, bias = self.qkv.weight, self.projection_bias()
            query = F.linear(x[:, :1], weight[:dims], None if bias is None else bias[:dims])
            both = F.linear(x, weight[dims:], None if bias is None else bias[dims:])
            query = query.view(batch, 1, self.num_heads, self.head_dims).transpose(1, 2)  # (B, N, 1, d)
            # (B, T, 2C) -> (2, B, N, T, d)
            key, value = both.view(batch, length, 2, self.num_heads, self.head_dims).permute(2, 0, 3, 1, 4).unbind(0)
        else:
            # (B, T, 3C) -> (3, B, N, T, d)
            bias = self.projection_bias()
            qkv = norm_linear(x, norm, self.qkv) if self.q_bias is None else F.linear(x, self.qkv.weight, bias)
            query, key, value = (
                qkv.view(batch, length, 3, self.num_heads, self.head_dims).permute(2, 0, 3, 1, 4).unbind(0)
            )
        if isinstance(rel_pos_bias, Rotation):
            key = rel_pos_bias.turn(key)
            query = query if first_only else rel_pos_bias.turn(query)  # the class token has no position
            rel_pos_bias = None
        if present is None and rel_pos_bias is None:
            mixed = self.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        else:
            mixed = attend(query, key, value, dropout, _logit_mask(present, rel_pos_bias, first_only))
        mixed = mixed.transpose(1, 2).flatten(2)  # (B, N, T, d) -> (B, T, C)
        if rows is not None:
            mixed = mixed.flatten(0, 1)[rows]
        return self.gamma1(self.proj_drop(self.proj(mixed)))


def _logit_mask(present: Tensor | None, bias: Tensor | None, first_only: bool) -> Tensor:
    """Merges a key padding mask (B, T) and a bias (N, T, T) or (B, N, T, T) into one mask for :func:`attend`."""
    keys = None if present is None else present[:, None, None, :]
    if bias is None:
        assert keys is not None
        return keys
    bias = bias if bias.ndim == 4 else bias[None]
    bias = bias[:, :, :1] if first_only else bias
    return bias if keys is None else bias.masked_fill(~keys, float('-inf'))
