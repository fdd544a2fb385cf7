"""mmpretrain's transformer layer, faster: tokens and images whose output is not used are not computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from mmcv.cnn.bricks import DropPath
from mmcv.cnn.bricks.transformer import FFN
from mmengine.model import BaseModule
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from torch import Tensor, nn

from mstkit.models.encoder_attention import EncoderAttention
from mstkit.models.memory_lean_linear import LeanFFN, lean_ffn
from mstkit.models.weight_casts import CastBlock
from mstkit.utils.device_precision import autocast_dtype
from mstkit.utils.private_attributes import has_hooks
from mstkit.utils.relative_positions import TokenPairs
from mstkit.utils.rotary_positions import Rotation

FEW = 0.1  # of a batch: so few dropped images are computed in half precision all the same


@CastBlock.register
class EncoderLayer(TransformerEncoderLayer):
    """mmpretrain's transformer layer with the same parameters and results, computed faster.

    - Stochastic depth (Huang et al., ECCV 2016): on a CPU, dropped branches are not computed at all instead of being
      multiplied by zero. On a GPU, where selecting the images would make the host wait, scaling and addition are one
      fused operation; so they are at rates up to 0.1 in half precision on a CPU, where oneDNN compiles a product for
      every number of images and keeps it: 2 % of the time against a seventh of the memory of a ViT-S. The random draws
      are those of mmcv's ``DropPath``.
    - On a CPU the norm before the attention is computed again in the backward pass, as that before the FFN is
      everywhere; so its result need not be kept.
    - In the last layer often only some output tokens are used: for the others only keys and values are computed.
    - :meth:`use_compiled` compiles the layer. All layers of the same kind and shape share one graph, so compiling a
      network takes as long as compiling one layer.

    Args:
        layer: mmpretrain's layer, whose modules and parameters are reused.
    """

    _compiled: Callable[..., Tensor] | None = None
    ffn: Any  # an FFN or, with ffn_type='swiglu_fused', another kind

    def __init__(self, layer: TransformerEncoderLayer) -> None:
        BaseModule.__init__(self, layer.init_cfg)  # not mmpretrain's, which would initialize all weights again
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
        relative: Tensor | TokenPairs | Rotation | None = None,
    ) -> Tensor:
        """Encodes tokens.

        Args:
            x: (B, T, C).
            first_only: return only the first token of each image.
            rows: (M,) int64, return only the tokens of these indices among B*T, in this order.
            present: (B, T) bool, False for padding tokens, which are not attended to; None without padding.
            relative: relative position biases of the logits, (N, T, T) or (B, N, T, T), shared by all layers; or the
                token pairs that the layer looks up in its own table; or the rotation of queries and keys; or None.

        Returns:
            (B, T, C), (B, 1, C) or (M, C).
        """
        bias = self.attn.logit_bias(relative)
        if rows is not None:
            return self._forward_rows(x, rows, bias)
        if self._compiled is not None and self.training and present is None:
            # Drawn outside of the compiled function: the rate differs between layers, and each would need a graph.
            return self._compiled(self, x, first_only, *self._factors(x), bias)
        of_attention, of_feed = self._factors(x)
        base = x[:, :1] if first_only else x

        def attend_to(part: Tensor, kept: Tensor | None) -> Tensor:
            there, near = present, bias
            if kept is not None:
                there = None if present is None else present.index_select(0, kept)
                near = _of_images(bias, kept)
            return self._attend(part, first_only=first_only, present=there, rel_pos_bias=near)

        x = self._add(base, x, of_attention, attend_to)
        if not isinstance(self.ffn, FFN):
            return self.ffn(self.ln2(x), identity=x)
        return self._add(x, x, of_feed, lambda part, _: self._feed(part))

    def use_compiled(self, compiler: Callable[..., Callable]) -> None:
        """Compiles the training forward pass, except with ``rows`` or padding.

        Args:
            compiler: compiles a function, and returns the same compiled function for the same function.
        """
        if isinstance(self.ffn, FFN):
            self._compiled = compiler(EncoderLayer._whole, dynamic=False)  # a step has two sizes of views

    def _whole(
        self,
        x: Tensor,
        first_only: bool,
        of_attention: Tensor | None,
        of_feed: Tensor | None,
        bias: Tensor | Rotation | None = None,
    ) -> Tensor:
        """:meth:`forward` without data-dependent control flow: both branches are computed for all images.

        Args:
            x: (B, T, C).
            first_only: see :meth:`forward`.
            of_attention: (B, 1), stochastic depth's factor of each image's attention branch; None for 1.
            of_feed: likewise of the feed-forward branch.
            bias: of the logits, see :meth:`EncoderAttention.logit_bias`.
        """
        base = x[:, :1] if first_only else x
        seen = self._attend(x, first_only=first_only, rel_pos_bias=bias)
        x = _scaled_sum(base, seen, of_attention)
        return _scaled_sum(x, self._feed(x), of_feed)

    def _forward_rows(self, x: Tensor, rows: Tensor, bias: Tensor | Rotation | None) -> Tensor:
        images = rows // x.shape[1]
        seen = self._attend(x, rows=rows, rel_pos_bias=bias)
        chosen = x.flatten(0, 1)[rows]
        of_attention, of_feed = self._factors(x)
        chosen = chosen + (seen if of_attention is None else seen * of_attention[images])
        if not isinstance(self.ffn, FFN):
            return self.ffn(self.ln2(chosen), identity=chosen)
        fed = self._feed(chosen)
        return chosen + (fed if of_feed is None else fed * of_feed[images])

    def _attend(self, x: Tensor, **how: Any) -> Tensor:
        """The attention's branch with the norm before it; ``how`` is that of :meth:`EncoderAttention.forward`."""
        # A GPU would launch the norm's kernels again in the backward pass. Hooks see the normed tokens, as anywhere.
        if x.device.type == 'cpu' and not has_hooks(self.attn):
            return self.attn(x, norm=self.ln1, **how)
        return self.attn(self.ln1(x), **how)

    def _feed(self, x: Tensor) -> Tensor:
        if isinstance(self.ffn, LeanFFN):
            return self.ffn.feed(x, self.ln2)
        return self.ffn.gamma2(self.ffn.layers(self.ln2(x)))

    def _add(
        self, base: Tensor, x: Tensor, factor: Tensor | None, branch: Callable[[Tensor, Tensor | None], Tensor]
    ) -> Tensor:
        """base + branch of the kept images / keep probability (stochastic depth), by the factor of each image.

        The branch is called with the kept images and their indices, or with all images and None.
        """
        if factor is None:
            return base + branch(x, None)
        if _computes_all(factor):
            return _scaled_sum(base, branch(x, None), factor)
        kept = factor.flatten().nonzero().squeeze(1)  # may be empty: gradients are then zeros, as DDP needs them
        scale = float(factor.max())
        if len(kept) == len(x):
            return torch.add(base, branch(x, None), alpha=scale)
        return base.index_add(0, kept, branch(x.index_select(0, kept), kept).to(base.dtype), alpha=scale)

    def _factors(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Stochastic depth's factors of each image, of the attention's and of the feed-forward branch.

        Returns:
            (B, 1) each, 0 or 1 / keep probability; None where nothing is dropped.
        """
        of_ffn = self.ffn.dropout_layer if isinstance(self.ffn, FFN) else None
        rates = _drop_rate(self.attn.out_drop), _drop_rate(of_ffn)
        if rates[0] == rates[1] and rates[0]:  # as everywhere: drawn together, by half as many kernels
            both = _drawn(2 * len(x), rates[0], x.device)
            return both[: len(x)], both[len(x) :]
        of_attention, of_feed = (_drawn(len(x), rate, x.device) if rate else None for rate in rates)
        return of_attention, of_feed


def _drop_rate(drop: nn.Module | None) -> float:
    return float(drop.drop_prob or 0) if isinstance(drop, DropPath) and drop.training else 0.0


def _drawn(count: int, rate: float, device: torch.device) -> Tensor:
    """(count, 1): 0 with a probability of ``rate``, else 1 / (1 - rate)."""
    return torch.rand(count, 1, device=device).ge(rate).div(1 - rate)


def _computes_all(factor: Tensor) -> bool:
    """Whether branches are also computed for dropped images: not on a CPU, but for few of them in half precision."""
    if factor.device.type != 'cpu':
        return True
    few = 1 / (1 - FEW) + 1e-6  # the factor is rounded to float32
    return autocast_dtype(factor.device) is not None and 0 < float(factor.max()) <= few


def _scaled_sum(base: Tensor, branch: Tensor, factor: Tensor | None) -> Tensor:
    """base + factor * branch; (B, T, C) both, factor (B, 1) or None for 1."""
    if factor is None:
        return base + branch
    return torch.addcmul(base, branch.to(base.dtype), factor.to(base.dtype)[:, :, None])


def _of_images(bias: Tensor | Rotation | None, kept: Tensor) -> Tensor | Rotation | None:
    """The bias or rotation of some images, (K,) int64."""
    if isinstance(bias, Rotation):
        return bias.of_images(kept)
    return bias if bias is None or bias.ndim == 3 else bias.index_select(0, kept)
