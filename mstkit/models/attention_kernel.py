"""Which kernel attention runs through."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def attend(query: Tensor, key: Tensor, value: Tensor, dropout_p: float = 0.0, mask: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention, by the fused kernel except where that is the slow one.

    On a CPU in half precision torch's fused kernel is written for long sequences: forward and backward of
    (64, 6, 37, 64) take 39 ms through it and 5 ms as two matrix products and a softmax, (16, 6, 197, 64) 29 ms and
    12 ms (torch 2.15, two cores with AMX). In float32 the two are level and the fused one is kept, so that the result
    is mmpretrain's bit for bit.

    Args:
        query: (B, N, L, d).
        key: (B, N, L, d).
        value: (B, N, L, d).
        dropout_p: share of the attention that is dropped.
        mask: what the logits, (B, N, L, L), are masked by, in a shape that expands to theirs: bool, which keys are
            there at all, one at least in each image; or a bias, which is added to them and gets a gradient. None for
            neither.

    Returns:
        (B, N, L, d).
    """
    if mask is not None and mask.dtype != torch.bool:
        mask = mask.to(query.dtype)
    half = query.dtype in (torch.bfloat16, torch.float16)
    if query.device.type != 'cpu' or not half:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout_p)
    # Autocast would make the softmax's input and output float32: half as much time again, and three times the memory.
    # The softmax adds up in float32 all the same, and the error against float32 throughout is no larger for it.
    with torch.autocast('cpu', enabled=False):
        scores = query * query.shape[-1] ** -0.5 @ key.transpose(-2, -1)
        if mask is not None:
            scores = scores.masked_fill(~mask, float('-inf')) if mask.dtype == torch.bool else scores + mask
        weights = torch.softmax(scores, dim=-1)
        return F.dropout(weights, dropout_p, training=dropout_p > 0) @ value
