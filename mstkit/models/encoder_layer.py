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


class EncoderAttention(MultiheadAttention):
    """mmpretrain's attention without its stochastic depth, which the layer around it applies.

    Queries, keys and values are taken apart at once: the gradient of that is one copy, not a sum of three.

    Args:
        attention: mmpretrain's, whose layers are taken over with their parameters.
    """

    def __init__(self, attention: MultiheadAttention) -> None:
        BaseModule.__init__(self, attention.init_cfg)  # not mmpretrain's, which would draw all weights once more
        self.input_dims, self.embed_dims = attention.input_dims, attention.embed_dims
        self.num_heads, self.head_dims = attention.num_heads, attention.head_dims
        self.attn_drop = attention.attn_drop
        self.scaled_dot_product_attention = attend
        self.qkv, self.proj, self.proj_drop = attention.qkv, attention.proj, attention.proj_drop
        self.out_drop, self.gamma1 = attention.out_drop, attention.gamma1
        self.training = attention.training

    def forward(
        self, x: Tensor, first_only: bool = False, rows: Tensor | None = None, present: Tensor | None = None
    ) -> Tensor:
        """Mixes tokens; arguments and shapes as in :meth:`EncoderLayer.forward`."""
        batch, length, dims = x.shape
        dropout = self.attn_drop if self.training else 0.0
        if first_only:
            weight, bias = self.qkv.weight, self.qkv.bias
            query = F.linear(x[:, :1], weight[:dims], None if bias is None else bias[:dims])
            both = F.linear(x, weight[dims:], None if bias is None else bias[dims:])
            query = query.view(batch, 1, self.num_heads, self.head_dims).transpose(1, 2)
            key, value = both.view(batch, length, 2, self.num_heads, self.head_dims).permute(2, 0, 3, 1, 4).unbind(0)
        else:
            qkv = self.qkv(x).view(batch, length, 3, self.num_heads, self.head_dims)
            query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        if present is None:
            mixed = self.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        else:
            mixed = attend(query, key, value, dropout, present[:, None, None, :])
        mixed = mixed.transpose(1, 2).flatten(2)
        if rows is not None:
            mixed = mixed.flatten(0, 1)[rows]
        return self.gamma1(self.proj_drop(self.proj(mixed)))


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
        self, x: Tensor, first_only: bool = False, rows: Tensor | None = None, present: Tensor | None = None
    ) -> Tensor:
        """Encodes tokens.

        Args:
            x: (B, T, C).
            first_only: gives the first token of each image alone.
            rows: (M,) int64, gives the tokens at these places of B*T alone, in this order.
            present: (B, T) bool, which tokens are there: the others, padding, are no keys. None for all.

        Returns:
            (B, T, C), (B, 1, C) or (M, C).
        """
        if rows is not None:
            return self._forward_rows(x, rows)
        if self._compiled is not None and self.training and present is None:
            # Drawn outside: the rate differs from layer to layer, and a compiler would make a graph for each.
            factors = self._factors(self.attn.out_drop, x), self._factors(self.ffn.dropout_layer, x)
            return self._compiled(self, x, first_only, *factors)
        base = x[:, :1] if first_only else x

        def attend_to(part: Tensor, there: Tensor | None) -> Tensor:
            return self.attn(self.ln1(part), first_only=first_only, present=there)

        x = self._add(base, x, self.attn.out_drop, attend_to, present)
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

    def _whole(self, x: Tensor, first_only: bool, of_attention: Tensor | None, of_feed: Tensor | None) -> Tensor:
        """:meth:`forward` without a choice that depends on numbers: all images go through both branches.

        Args:
            x: (B, T, C).
            first_only: as there.
            of_attention: (B, 1), what each image's branch is multiplied by, or None for 1.
            of_feed: likewise.
        """
        base = x[:, :1] if first_only else x
        x = _scaled_sum(base, self.attn(self.ln1(x), first_only=first_only), of_attention)
        return _scaled_sum(x, self._feed(x), of_feed)

    def _forward_rows(self, x: Tensor, rows: Tensor) -> Tensor:
        images = rows // x.shape[1]
        seen = self.attn(self.ln1(x), rows=rows)
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
        self,
        base: Tensor,
        x: Tensor,
        drop: nn.Module,
        branch: Callable[[Tensor, Tensor | None], Tensor],
        present: Tensor | None = None,
    ) -> Tensor:
        """base + branch(x, present), without the images that are dropped, times 1 / (share that is kept)."""
        factor = self._factors(drop, x)
        if factor is None:
            return base + branch(x, present)
        if x.device.type != 'cpu':
            return _scaled_sum(base, branch(x, present), factor)
        kept = factor.flatten().nonzero().squeeze(1)  # none is fine: gradients are then zeros, as DDP wants them
        scale = float(factor.max())
        if len(kept) == len(x):
            return torch.add(base, branch(x, present), alpha=scale)
        there = None if present is None else present.index_select(0, kept)
        return base.index_add(0, kept, branch(x.index_select(0, kept), there).to(base.dtype), alpha=scale)

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
