"""Batch normalization, ReLU, 2× upsampling and a convolution that keep one map for the backward pass instead of three.

Autograd would keep the map before the normalization, after the ReLU and after the upsampling; the last is four times
as large as the others. Here the first alone is kept, in whose place its gradient is written, and the others are made
again in the backward pass, an image at a time. In float32 the gradient of the convolution's weights is a matrix product
for each position of its kernel: on a processor with AVX2 oneDNN's own takes up to three times as long
(docs/en/performance.md has the numbers).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from mstkit.models.view_batch_norm import normalize_views
from mstkit.utils.device_precision import autocast_dtype
from mstkit.utils.private_attributes import keeps_graph

WIDE = 128  # channels from which on none of this takes longer than torch's own operations


def doubled(x: Tensor) -> Tensor:
    """2× bilinear upsampling of maps (B, C, h, w)."""
    return F.interpolate(x, scale_factor=2, mode='bilinear', align_corners=False)


def normed_conv(x: Tensor, norm: nn.Module, conv: nn.Conv2d, views: int, double: bool) -> Tensor:
    """``conv(doubled(relu(norm(x))))``, in less memory and time on a CPU where the maps have many channels.

    Args:
        x: (V*B, C, h, w), view by view, in channels-last format; under autocast in its precision, as a convolution
            leaves it.
        norm: a batch normalization, or another module that keeps the shape.
        conv: with an odd square kernel, stride 1, and as much padding as keeps the size.
        views: V, each of which has batch statistics of its own, see :func:`normalize_views`.
        double: whether to upsample before the convolution.

    Returns:
        (V*B, C', h, w), or (V*B, C', 2h, 2w) with ``double``.
    """
    if _is_lean(x, norm):
        return _NormedConv.apply(x, norm.weight, norm.bias, conv.weight, conv.bias, norm, views, double)
    x = normalize_views(norm, x, views, updating=views).relu_()
    return conv(doubled(x) if double else x)


def _is_lean(x: Tensor, norm: nn.Module) -> bool:
    """Whether it can be and pays: on a CPU, wide, not in float16, with statistics of this process's batch."""
    plain = type(norm) is nn.BatchNorm2d and norm.training and norm.affine and norm.momentum is not None
    half = autocast_dtype(x.device)
    known = x.dtype in (torch.float32, torch.float64) if half is None else x.dtype is half is torch.bfloat16
    return x.device.type == 'cpu' and known and x.shape[1] >= WIDE and plain and torch.is_grad_enabled()


class _NormedConv(torch.autograd.Function):
    """See :func:`normed_conv`; saves x. With x in bfloat16 parameters and statistics are float32, as under autocast."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        scale: Tensor,
        shift: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        norm: nn.BatchNorm2d,
        views: int,
        double: bool,
    ) -> Tensor:
        size = (len(x), len(weight), *(side * (1 + double) for side in x.shape[2:]))
        out = torch.empty(size, dtype=x.dtype, memory_format=torch.channels_last)
        mean, rstd = (scale.new_empty(views, x.shape[1]) for _ in range(2))
        used, added = weight.to(x.dtype), None if bias is None else bias.to(x.dtype)
        for view, made, *into in zip(x.chunk(views), out.chunk(views), mean, rstd, strict=True):
            z = _normalized(view, norm, *into).relu_()
            for image, result in zip(z.split(1), made.split(1), strict=True):
                seen = doubled(image) if double else image
                result.copy_(F.conv2d(seen, used, added, padding=weight.shape[-1] // 2))
            del z, image, seen  # before the next view's is made
        ctx.save_for_backward(x, scale, shift, weight, mean, rstd)
        ctx.eps, ctx.double = norm.eps, double
        # A map between two of these is in nobody else's hands.
        ctx.between = type(x.grad_fn).__name__ == f'{_NormedConv.__name__}Backward'
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, shift, weight, means, rstds = ctx.saved_tensors
        wants_weight, wants_bias = ctx.needs_input_grad[3:5]
        used = weight.to(x.dtype)
        of_weight = weight.new_zeros(*weight.shape[2:], *weight.shape[:2]) if wants_weight else None
        # Its gradient takes the place of such a map view by view, unless the graph is kept for another backward pass.
        replaced = ctx.between and not keeps_graph()
        of_x = x if replaced else torch.empty_like(x)
        of_scale, of_shift = torch.zeros_like(scale), torch.zeros_like(shift)
        parts = (one.chunk(len(means)) for one in (x, gradient, of_x))
        for view, of_view, results, mean, rstd in zip(*parts, means, rstds, strict=True):
            of_normed = torch.empty_like(view) if replaced else results
            factor = scale * rstd
            offset = shift - mean * factor
            for image, given, into in zip(*(one.split(1) for one in (view, of_view, of_normed)), strict=True):
                z = _line(image, factor, offset).relu_()
                seen = doubled(z) if ctx.double else z
                back = _input_gradient(given, seen, used, of_weight)
                if ctx.double:
                    back = torch.ops.aten.upsample_bilinear2d_backward(back, seen.shape[2:], z.shape, False, 2.0, 2.0)
                torch.ops.aten.threshold_backward(back, z, 0, grad_input=into)  # of the ReLU
            _, for_scale, for_shift = torch.ops.aten.native_batch_norm_backward(
                of_normed, view, scale, None, None, mean, rstd, True, ctx.eps, (False, True, True)
            )
            of_scale += for_scale
            of_shift += for_shift
            # An image at a time, where that function would make another map: factor * (g - mean(g) - x' * mean(g * x'))
            # with x' for the normalized x, as a sum of multiples of g, x and 1.
            count = len(view) * view[0, 0].numel()
            slope = -factor * rstd * for_scale / count
            constant = -factor * for_shift / count - slope * mean
            for image, normed, result in zip(*(one.split(1) for one in (view, of_normed, results)), strict=True):
                torch.add(_line(normed, factor), _line(image, slope, constant), out=result)
            del of_normed, normed, into  # before the next view's is made
        return (
            of_x.detach(),
            of_scale,
            of_shift,
            None if of_weight is None else of_weight.permute(2, 3, 0, 1),
            gradient.sum((0, 2, 3), dtype=scale.dtype) if wants_bias else None,
            *(None,) * 3,
        )


def _line(x: Tensor, factor: Tensor, offset: Tensor | None = None) -> Tensor:
    """``factor * x + offset`` of maps, both (C,) float32 where x is bfloat16, or no offset."""
    if x.dtype is torch.bfloat16:  # as a normalization, which takes an eighth of the time of an operation of two types
        none = torch.zeros_like(factor)
        return torch.batch_norm(x, factor, none if offset is None else offset, none, none + 1, False, 0.0, 0.0, False)
    if offset is None:
        return x * factor[:, None, None]
    return torch.addcmul(offset[:, None, None], x, factor[:, None, None])


def _normalized(view: Tensor, norm: nn.BatchNorm2d, mean: Tensor, rstd: Tensor) -> Tensor:
    """A view with its own statistics, which update the running ones and are written to ``mean`` and ``rstd``, (C,)."""
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked += 1
    running, momentum = (norm.running_mean, norm.running_var), float(norm.momentum or 0)
    into = torch.empty_like(view), mean, rstd
    return torch.native_batch_norm(view, norm.weight, norm.bias, *running, True, momentum, norm.eps, out=into)[0]


def _input_gradient(given: Tensor, seen: Tensor, weight: Tensor, total: Tensor | None) -> Tensor:
    """From the gradient of a convolution's output (B, C', h, w) to that of its input ``seen`` (B, C, h, w).

    The gradient of its weights is added to ``total``, (k, k, C', C), unless that is None.
    """
    kernel = weight.shape[-1]
    # In bfloat16 nine products of 256 channels take 1.2 times as long as oneDNN's own.
    by_products = kernel == 1 or (min(weight.shape[:2]) >= WIDE and weight.dtype is not torch.bfloat16)
    if total is not None and by_products:
        _add_weight_gradient(total, seen, given)
    if kernel == 1:  # its own gradient takes as much memory as several maps
        return F.conv2d(given, weight.transpose(0, 1))
    pad, wanted = [kernel // 2] * 2, (True, total is not None and not by_products, False)
    of_seen, of_weight, _ = torch.ops.aten.convolution_backward(
        given, seen, weight, None, (1, 1), pad, (1, 1), False, (0, 0), 1, wanted
    )
    if wanted[1]:
        assert total is not None
        total += of_weight.permute(2, 3, 0, 1)
    return of_seen


def _add_weight_gradient(total: Tensor, seen: Tensor, given: Tensor) -> None:
    """Adds a convolution's gradient of its weights to (k, k, C', C).

    In channels-last format a map with a border of zeros is a matrix with a row for each pixel, in which a neighbor is a
    fixed number of rows away: so each position of the kernel is one product of two parts of such matrices, without a
    copy of either.

    Args:
        total: (k, k, C', C), k odd.
        seen: (B, C, h, w), the convolution's input.
        given: (B, C', h, w), the gradient of its output.
    """
    border = total.shape[0] // 2
    edges = (0, 0, border, border, border, border)
    rows, others = (F.pad(one.permute(0, 2, 3, 1), edges).flatten(0, 2) for one in (seen, given))
    width = seen.shape[3] + 2 * border
    margin = border * (width + 1)  # the first and last pixels, which have no neighbor there, are zeros of the border
    inner = others[margin : len(others) - margin].t()
    for y, line in enumerate(total):
        for x, place in enumerate(line):
            step = (y - border) * width + x - border
            here = rows[margin + step : len(rows) - margin + step]
            if here.dtype is place.dtype:
                place.addmm_(inner, here)
            else:
                place += inner @ here
