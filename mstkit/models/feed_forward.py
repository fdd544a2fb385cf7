"""The two linear layers of a transformer's block, without keeping what lies between them twice."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from mmcv.cnn.bricks.transformer import FFN
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class _GELULinear(torch.autograd.Function):
    """linear(gelu(x)), of which x is kept for the backward pass and gelu(x) is not."""

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


def gelu_linear(x: Tensor, linear: nn.Linear) -> Tensor:
    """``linear(gelu(x))``, bit for bit, in less memory.

    Autograd would keep both x, for the gradient of GELU, and gelu(x), for the gradient of the weights: together half of
    what a block of a vision transformer keeps. Here gelu(x) is computed again in the backward pass, which takes about
    one hundredth of a step.

    Args:
        x: (..., C_in).
        linear: maps C_in to C_out.

    Returns:
        (..., C_out).
    """
    # The weights are cast here, where autograd sees it, since autocast would cast them inside the function.
    weight, bias = linear.weight.to(x.dtype), None if linear.bias is None else linear.bias.to(x.dtype)
    if not torch.is_grad_enabled() or torch.compiler.is_compiling():  # a compiler chooses what to compute again
        return F.linear(F.gelu(x), weight, bias)
    return _GELULinear.apply(x, weight, bias)


class LeanFFN(FFN):
    """mmcv's ``FFN``, the same parameters and results, by :func:`gelu_linear`."""

    @classmethod
    def take_over(cls, modules: Iterable[nn.Module]) -> None:
        """Makes every ``FFN`` among the modules one of ours that would gain by it; the others stay as they are."""
        for module in modules:
            if type(module) is FFN and cls._gains(module.layers):
                module.__class__ = cls

    @staticmethod
    def _gains(layers: Any) -> bool:
        first = layers[0]
        return (
            len(layers) == 3
            and isinstance(first[1], nn.GELU)
            and first[1].approximate == 'none'
            and not first[2].p  # what is dropped after the activation would have to be drawn again
        )

    def feed(self, x: Tensor) -> Tensor:
        """The branch without its identity and stochastic depth: (..., C) to (..., C)."""
        first, second, dropout = self.layers
        return self.gamma2(dropout(gelu_linear(first[0](x), second)))

    def forward(self, x: Tensor, identity: Tensor | None = None) -> Tensor:
        """As mmcv's: (..., C) to (..., C)."""
        fed = self.dropout_layer(self.feed(x))
        if not self.add_identity:
            return fed
        return (x if identity is None else identity) + fed
