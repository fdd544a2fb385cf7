"""Attention as one kernel of a GPU, computed by the one of the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

ATEN = torch.ops.aten
HALF = (torch.float16, torch.bfloat16)
ORIGINAL = functional.scaled_dot_product_attention


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Takes the place of torch's, which knows no kernel for a device that is not there.

    FlashAttention in half precision, memory-efficient attention in float32 and with a mask, as on a GPU of today. A
    mask that learns (relative positions) goes through products here: the CPU's kernel has no gradient for it.
    """
    if query.device.type != 'cuda' or enable_gqa or (attn_mask is not None and attn_mask.requires_grad):
        return ORIGINAL(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
    if torch.is_autocast_enabled('cuda'):
        query, key, value = (one.to(torch.get_autocast_dtype('cuda')) for one in (query, key, value))
    with torch.autocast('cuda', enabled=False):
        if attn_mask is None and query.dtype in HALF:
            return ATEN._scaled_dot_product_flash_attention(query, key, value, dropout_p, is_causal, scale=scale)[0]
        if attn_mask is not None and attn_mask.dtype != torch.bool:
            attn_mask = attn_mask.to(query.dtype)
        keep = query.requires_grad or key.requires_grad or value.requires_grad
        return ATEN._scaled_dot_product_efficient_attention(
            query, key, value, attn_mask, keep, dropout_p, is_causal, scale=scale
        )[0]


def _nothing(of: Tensor) -> Tensor:
    return of.new_zeros((), dtype=torch.int64)


def _flash(
    query: Tensor, key: Tensor, value: Tensor, drop: float = 0.0, causal: bool = False, *_: Any, scale: Any = None
) -> Any:
    out, summed = ATEN._scaled_dot_product_flash_attention_for_cpu(query, key, value, drop, causal, scale=scale)
    lengths = query.shape[2], key.shape[2]
    return out, summed, None, None, *lengths, _nothing(query), _nothing(query), _nothing(query)


def _flash_backward(*args: Any, scale: Any = None) -> Any:
    drop, causal = args[10:12]
    return ATEN._scaled_dot_product_flash_attention_for_cpu_backward(*args[:6], drop, causal, scale=scale)


def _efficient(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    keep: bool,
    drop: float = 0.0,
    causal: bool = False,
    *,
    scale: Any = None,
) -> Any:
    out, summed = ATEN._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, drop, causal, attn_mask=mask, scale=scale
    )
    return out, summed, _nothing(query), _nothing(query)


def _efficient_backward(*args: Any, scale: Any = None) -> Any:
    gradient, query, key, value, mask, out, summed, _, _, drop, _, *causal = args
    return *ATEN._scaled_dot_product_flash_attention_for_cpu_backward(
        gradient, query, key, value, out, summed, drop, bool(causal and causal[0]), attn_mask=mask, scale=scale
    ), None


KERNELS: dict[str, Callable[..., Any]] = {
    'aten::_scaled_dot_product_flash_attention': _flash,
    'aten::_scaled_dot_product_flash_attention_backward': _flash_backward,
    'aten::_scaled_dot_product_efficient_attention': _efficient,
    'aten::_scaled_dot_product_efficient_attention_backward': _efficient_backward,
}
