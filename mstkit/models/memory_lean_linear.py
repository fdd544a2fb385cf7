"""LayerNorm-Linear and GELU-Linear that save one activation for the backward pass instead of two."""

from __future__ import annotations

from typing import Any

import torch
from mmcv.cnn.bricks.transformer import FFN
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from mstkit.utils.device_precision import autocast_dtype


class _GELULinear(torch.autograd.Function):
    """linear(gelu(x)); saves x for the backward pass and recomputes gelu(x)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.linear(F.gelu(x), weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        flat = gradient.flatten(0, -2)
        of_weight = flat.t() @ F.gelu(x).flatten(0, -2) if wants_weight else None
        of_bias = flat.sum(0) if wants_bias else None
        of_x = torch.ops.aten.gelu_backward(gradient @ weight, x) if wants_x else None
        return of_x, of_weight, of_bias


class _NormLinear(torch.autograd.Function):
    """linear(layer_norm(x)); saves x for the backward pass and recomputes layer_norm(x)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, eps: float, weight: Tensor, bias: Tensor | None
    ) -> Tensor:
        normed, mean, rstd = torch.native_layer_norm(x, scale.shape, scale, shift, eps)
        ctx.save_for_backward(x, mean, rstd, scale, shift, weight)
        ctx.eps = eps
        return F.linear(normed.to(weight.dtype), weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, rstd, scale, shift, weight = ctx.saved_tensors
        *wants_norm, _, wants_weight, wants_bias = ctx.needs_input_grad
        flat = gradient.flatten(0, -2)
        of_weight = None
        if wants_weight:
            normed = torch.native_layer_norm(x, scale.shape, scale, shift, ctx.eps)[0]
            of_weight = flat.t() @ normed.to(weight.dtype).flatten(0, -2)
        of_bias = flat.sum(0) if wants_bias else None
        of_norm = torch.ops.aten.native_layer_norm_backward(
            (gradient @ weight).to(x.dtype), x, scale.shape, mean, rstd, scale, shift, wants_norm
        )
        return *of_norm, None, of_weight, of_bias


def _plain() -> bool:
    """Whether nothing is saved anyway (no gradient), or a compiler decides what is recomputed."""
    return not torch.is_grad_enabled() or torch.compiler.is_compiling()


def norm_linear(x: Tensor, norm: nn.Module | None, linear: nn.Linear) -> Tensor:
    """``linear(norm(x))``, bit for bit, in less memory.

    Autograd would save both x, for the gradient of the norm, and norm(x), for the gradient of the weights. Here norm(x)
    is recomputed in the backward pass.

    Args:
        x: (..., C_in).
        norm: a layer normalization; any other module, or a norm in another precision than x, is called as usual. None
            for no norm.
        linear: maps C_in to C_out.

    Returns:
        (..., C_out).
    """
    if norm is None:
        return linear(x)
    fits = isinstance(norm, nn.LayerNorm) and len(norm.normalized_shape) == 1 and norm.bias is not None
    if not fits or norm.weight.dtype != x.dtype or _plain():
        return linear(norm(x))
    dtype = autocast_dtype(x.device) or linear.weight.dtype
    return _NormLinear.apply(x, norm.weight, norm.bias, norm.eps, *_cast(linear, dtype))


def _cast(linear: nn.Linear, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """Casts weight and bias outside of the functions above, where autograd records it (autocast would inside)."""
    return linear.weight.to(dtype), None if linear.bias is None else linear.bias.to(dtype)


def gelu_linear(x: Tensor, linear: nn.Linear) -> Tensor:
    """``linear(gelu(x))``, bit for bit, in less memory.

    Autograd would save both x, for the gradient of GELU, and gelu(x), for the gradient of the weights: together half of
    a ViT block's activations. Here gelu(x) is recomputed in the backward pass, which takes about 1% of a step.

    Args:
        x: (..., C_in).
        linear: maps C_in to C_out.

    Returns:
        (..., C_out).
    """
    if _plain():
        return linear(F.gelu(x))
    return _GELULinear.apply(x, *_cast(linear, x.dtype))


class LeanFFN(FFN):
    """mmcv's ``FFN`` with :func:`gelu_linear`: the same parameter names and the same results.

    Args:
        ffn: mmcv's FFN, whose layers and parameters are reused; see :func:`lean_ffn` for the supported ones.
    """

    def __init__(self, ffn: FFN) -> None:
        BaseModule.__init__(self, ffn.init_cfg)  # not FFN's, which would initialize all weights again
        self.embed_dims, self.feedforward_channels = ffn.embed_dims, ffn.feedforward_channels
        self.num_fcs, self.add_identity = ffn.num_fcs, ffn.add_identity
        self.layers, self.dropout_layer, self.gamma2 = ffn.layers, ffn.dropout_layer, ffn.gamma2
        self.training = ffn.training

    def feed(self, x: Tensor, norm: nn.Module | None = None) -> Tensor:
        """The residual branch including the norm before it, without stochastic depth: (..., C) to (..., C)."""
        first, second, dropout = self.layers
        return self.gamma2(dropout(gelu_linear(norm_linear(x, norm, first[0]), second)))

    def forward(self, x: Tensor, identity: Tensor | None = None) -> Tensor:
        """As mmcv's: (..., C) to (..., C)."""
        fed = self.dropout_layer(self.feed(x))
        if not self.add_identity:
            return fed
        return (x if identity is None else identity) + fed


def lean_ffn(ffn: nn.Module) -> nn.Module:
    """Converts mmcv's ``FFN`` to a :class:`LeanFFN` if it is supported; returns other modules unchanged.

    Supported are two linear layers with an exact GELU and no dropout in between, as in ViT and Swin (a dropout mask
    behind the activation would have to be drawn again in the backward pass).
    """
    if type(ffn) is not FFN:
        return ffn
    layers: Any = ffn.layers
    if len(layers) != 3:
        return ffn
    _, activation, dropout = layers[0]
    fits = isinstance(activation, nn.GELU) and activation.approximate == 'none' and not dropout.p
    return LeanFFN(ffn) if fits else ffn
