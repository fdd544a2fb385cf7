"""mmpretrain's encoder layer, without the work that nobody reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from mmcv.cnn.bricks import DropPath
from mmcv.cnn.bricks.transformer import FFN
from mmengine.model import BaseModule
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from mmpretrain.models.utils import MultiheadAttention
from torch import Tensor, nn
from torch.nn import functional as F

from mstkit.models.attention_kernel import attend
from mstkit.models.memory_lean_linear import LeanFFN, lean_ffn
from mstkit.utils.relative_positions import Grid, TokenPairs, table_length

QV_BIAS = 'qv_bias'  # mmpretrain's word for biases of queries and values without one of keys


class EncoderAttention(MultiheadAttention):
    """mmpretrain's attention without its stochastic depth, which the layer around it applies.

    Queries, keys and values are taken apart at once: the gradient of that is one copy, not a sum of three.

    Args:
        attention: mmpretrain's, whose layers are taken over with their parameters.

    Attributes:
        q_bias: (C,) bias of the queries where keys have none, BEiT's; None where ``qkv`` has the bias of all.
        v_bias: likewise of the values.
        relative_position_bias_table: biases of the logits by the offset of query and key, see :class:`TokenPairs`.
        table_grid: (h, w), the patches that the table is for.
    """

    def __init__(self, attention: MultiheadAttention) -> None:
        BaseModule.__init__(self, attention.init_cfg)  # not mmpretrain's, which would draw all weights once more
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
        """Gives queries and values a bias of their own, zeros; ``qkv`` has to be without."""
        self.q_bias, self.v_bias = (nn.Parameter(torch.zeros(self.embed_dims)) for _ in range(2))

    def add_relative_positions(self, grid: Grid, class_token: bool) -> None:
        """Gives the logits a bias by offset, zeros, for images of (h, w) patches."""
        self.table_grid = grid
        self.relative_position_bias_table = nn.Parameter(torch.zeros(table_length(grid, class_token), self.num_heads))

    def projection_bias(self) -> Tensor | None:
        """That of queries, keys and values, (3 C,); None where they have none."""
        if self.q_bias is None or self.v_bias is None:
            return self.qkv.bias
        return torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias))

    def logit_bias(self, relative: Tensor | TokenPairs | None) -> Tensor | None:
        """What is added to the logits, (N, T, T) or (B, N, T, T).

        Args:
            relative: that itself, which layers share, or the pairs of tokens, for the table of this layer.
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
        rel_pos_bias: Tensor | None = None,
    ) -> Tensor:
        """Mixes tokens; arguments and shapes as in :meth:`EncoderLayer.forward`, ``rel_pos_bias`` of `logit_bias`."""
        batch, length, dims = x.shape
        dropout = self.attn_drop if self.training else 0.0
        if first_only:
            weight, bias = self.qkv.weight, self.projection_bias()
            query = F.linear(x[:, :1], weight[:dims], None if bias is None else bias[:dims])
            both = F.linear(x, weight[dims:], None if bias is None else bias[dims:])
            query = query.view(batch, 1, self.num_heads, self.head_dims).transpose(1, 2)
            key, value = both.view(batch, length, 2, self.num_heads, self.head_dims).permute(2, 0, 3, 1, 4).unbind(0)
        else:
            qkv = self.qkv(x) if self.q_bias is None else F.linear(x, self.qkv.weight, self.projection_bias())
            query, key, value = (
                qkv.view(batch, length, 3, self.num_heads, self.head_dims).permute(2, 0, 3, 1, 4).unbind(0)
            )
        if present is None and rel_pos_bias is None:
            mixed = self.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        else:
            mixed = attend(query, key, value, dropout, _logit_mask(present, rel_pos_bias, first_only))
        mixed = mixed.transpose(1, 2).flatten(2)
        if rows is not None:
            mixed = mixed.flatten(0, 1)[rows]
        return self.gamma1(self.proj_drop(self.proj(mixed)))


def _logit_mask(present: Tensor | None, bias: Tensor | None, first_only: bool) -> Tensor:
    """Keys that are there, (B, T), and a bias, (N, T, T) or (B, N, T, T), as one mask for :func:`attend`."""
    keys = None if present is None else present[:, None, None, :]
    if bias is None:
        assert keys is not None
        return keys
    bias = bias if bias.ndim == 4 else bias[None]
    bias = bias[:, :, :1] if first_only else bias
    return bias if keys is None else bias.masked_fill(~keys, float('-inf'))


class EncoderLayer(TransformerEncoderLayer):
    """The same parameters and results, sooner.

    - Stochastic depth (Huang et al., ECCV 2016) on a CPU leaves out the images whose branch is dropped, instead of
      computing the branch and multiplying it by zero; elsewhere, where leaving out would wait for the device, scaling
      and addition are one operation. Which images are dropped is drawn as mmcv's ``DropPath`` draws it.
    - Of the last layer of a network often only some tokens are read. The others are keys and values there, and nothing
      more of them is computed.
    - :meth:`use_compiled` hands the layer to a compiler. One graph serves every layer of the same kind and shape, so a
      network of any depth takes as long to compile as one layer.

    Args:
        layer: mmpretrain's, whose parts are taken over with their parameters.
    """

    _compiled: Callable[..., Tensor] | None = None
    ffn: Any  # an FFN or, with ffn_type='swiglu_fused', another kind

    def __init__(self, layer: TransformerEncoderLayer) -> None:
        BaseModule.__init__(self, layer.init_cfg)  # not mmpretrain's, which would draw all weights once more
        self.embed_dims = layer.embed_dims
        self.ln1, self.attn = layer.ln1, EncoderAttention(layer.attn)
        self.ln2, self.ffn = layer.ln2, lean_ffn(layer.ffn)
        self.training = layer.training

    def forward(
        self,
        x: Tensor,
        first_only: bool = False,
        rows: Tensor | None = None,
        present: Tensor | None = None,
        relative: Tensor | TokenPairs | None = None,
    ) -> Tensor:
        """Encodes tokens.

        Args:
            x: (B, T, C).
            first_only: gives the first token of each image alone.
            rows: (M,) int64, gives the tokens at these places of B*T alone, in this order.
            present: (B, T) bool, which tokens are there: the others, padding, are no keys. None for all.
            relative: biases of the logits, (N, T, T) or (B, N, T, T), which layers share, or the pairs of tokens, of
                which the layer looks them up in a table of its own. None for none.

        Returns:
            (B, T, C), (B, 1, C) or (M, C).
        """
        bias = self.attn.logit_bias(relative)
        if rows is not None:
            return self._forward_rows(x, rows, bias)
        if self._compiled is not None and self.training and present is None:
            # Drawn outside: the rate differs from layer to layer, and a compiler would make a graph for each.
            factors = self._factors(self.attn.out_drop, x), self._factors(self.ffn.dropout_layer, x)
            return self._compiled(self, x, first_only, *factors, bias)
        base = x[:, :1] if first_only else x

        def attend_to(part: Tensor, kept: Tensor | None) -> Tensor:
            there, near = present, bias
            if kept is not None:
                there = None if present is None else present.index_select(0, kept)
                near = bias if bias is None or bias.ndim == 3 else bias.index_select(0, kept)
            return self.attn(self.ln1(part), first_only=first_only, present=there, rel_pos_bias=near)

        x = self._add(base, x, self.attn.out_drop, attend_to)
        if not isinstance(self.ffn, FFN):
            return self.ffn(self.ln2(x), identity=x)
        return self._add(x, x, self.ffn.dropout_layer, lambda part, _: self._feed(part))

    def use_compiled(self, compiler: Callable[..., Callable]) -> None:
        """Runs a training step's work, except where single rows are asked for, through a compiled function.

        Args:
            compiler: compiles a function; the same one for the same function.
        """
        if isinstance(self.ffn, FFN):
            self._compiled = compiler(EncoderLayer._whole, dynamic=False)  # a step has two sizes of views

    def _whole(
        self,
        x: Tensor,
        first_only: bool,
        of_attention: Tensor | None,
        of_feed: Tensor | None,
        bias: Tensor | None = None,
    ) -> Tensor:
        """:meth:`forward` without a choice that depends on numbers: all images go through both branches.

        Args:
            x: (B, T, C).
            first_only: as there.
            of_attention: (B, 1), what each image's branch is multiplied by, or None for 1.
            of_feed: likewise.
            bias: of the logits, as from :meth:`EncoderAttention.logit_bias`.
        """
        base = x[:, :1] if first_only else x
        seen = self.attn(self.ln1(x), first_only=first_only, rel_pos_bias=bias)
        x = _scaled_sum(base, seen, of_attention)
        return _scaled_sum(x, self._feed(x), of_feed)

    def _forward_rows(self, x: Tensor, rows: Tensor, bias: Tensor | None) -> Tensor:
        images = rows // x.shape[1]
        seen = self.attn(self.ln1(x), rows=rows, rel_pos_bias=bias)
        chosen = x.flatten(0, 1)[rows]
        factor = self._factors(self.attn.out_drop, x)
        chosen = chosen + (seen if factor is None else seen * factor[images])
        if not isinstance(self.ffn, FFN):
            return self.ffn(self.ln2(chosen), identity=chosen)
        fed, factor = self._feed(chosen), self._factors(self.ffn.dropout_layer, x)
        return chosen + (fed if factor is None else fed * factor[images])

    def _feed(self, x: Tensor) -> Tensor:
        if isinstance(self.ffn, LeanFFN):
            return self.ffn.feed(x, self.ln2)
        return self.ffn.gamma2(self.ffn.layers(self.ln2(x)))

    def _add(
        self, base: Tensor, x: Tensor, drop: nn.Module, branch: Callable[[Tensor, Tensor | None], Tensor]
    ) -> Tensor:
        """base + branch(x, None), times 1 / (share that is kept) and without the images that are dropped.

        The branch is given the images that are left, and which they are, or None for all.
        """
        factor = self._factors(drop, x)
        if factor is None:
            return base + branch(x, None)
        if x.device.type != 'cpu':
            return _scaled_sum(base, branch(x, None), factor)
        kept = factor.flatten().nonzero().squeeze(1)  # none is fine: gradients are then zeros, as DDP wants them
        scale = float(factor.max())
        if len(kept) == len(x):
            return torch.add(base, branch(x, None), alpha=scale)
        return base.index_add(0, kept, branch(x.index_select(0, kept), kept).to(base.dtype), alpha=scale)

    def _factors(self, drop: nn.Module, x: Tensor) -> Tensor | None:
        """What each image's branch is multiplied by: (B, 1), 0 or 1 / (share that is kept); None where all is 1."""
        if not isinstance(drop, DropPath) or not drop.drop_prob or not drop.training:
            return None
        keep = 1 - float(drop.drop_prob)
        return (keep + torch.rand(len(x), 1, device=x.device)).floor() / keep


def _scaled_sum(base: Tensor, branch: Tensor, factor: Tensor | None) -> Tensor:
    """base + branch, (B, T, C) both, the branch times a factor (B, 1) of each image."""
    if factor is None:
        return base + branch
    return torch.addcmul(base, branch.to(base.dtype), factor.to(base.dtype)[:, :, None])
