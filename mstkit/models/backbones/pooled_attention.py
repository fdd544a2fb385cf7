"""Attention from the class token (or the mean patch) to all patches, the scores that guide a masker."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mstkit.models.encoder_layer import EncoderAttention


def pooled_attention(
    attention: EncoderAttention, tokens: Tensor, class_tokens: int, registers: int = 0, bias: Tensor | None = None
) -> Tensor:
    """Attention from the pooled query to each patch, per head (MST eq. 4 before the mean over heads).

    Computed separately from the block's fused attention, for one query: O(L) in time and memory.

    Args:
        attention: the block's attention.
        tokens: (B, E + R + L, C), the block's input after its norm: class token, registers, patches.
        class_tokens: E, 1 or 0; the query is that of the class token, or without one that of the patches' mean.
        registers: R.
        bias: of the logits, (N, T, T) or (B, N, T, T) with T = E + R + L, or None.

    Returns:
        (B, N, L) float32: the part for the L patches of a softmax over all E + R + L keys.
    """
    dims, heads = attention.embed_dims, attention.num_heads
    weight, shift = attention.qkv.weight, attention.projection_bias()
    source = tokens[:, :1] if class_tokens else tokens[:, registers:].mean(dim=1, keepdim=True)
    query = F.linear(source, weight[:dims], None if shift is None else shift[:dims])
    key = F.linear(tokens, weight[dims : 2 * dims], None if shift is None else shift[dims : 2 * dims])
    batch, length = tokens.shape[:2]
    query = query.view(batch, 1, heads, dims // heads).transpose(1, 2).float()  # (B, N, 1, d)
    key = key.view(batch, length, heads, dims // heads).transpose(1, 2).float()  # (B, N, T, d)
    # In float32: autocast would compute the logits, and so rank the patches, in half precision.
    with torch.autocast(tokens.device.type, enabled=False):
        logits = query @ key.transpose(-2, -1) * attention.head_dims**-0.5
        if bias is not None:
            near = bias[..., :1, :] if class_tokens else bias[..., registers:, :].mean(dim=-2, keepdim=True)
            logits = logits + near.float()
        row = torch.softmax(logits, dim=-1)  # (B, N, 1, T)
    return row[:, :, 0, class_tokens + registers :]
