"""The row of an attention map that guides a masker."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mstkit.models.encoder_layer import EncoderAttention


def pooled_attention(
    attention: EncoderAttention, tokens: Tensor, class_tokens: int, registers: int = 0, bias: Tensor | None = None
) -> Tensor:
    """The row of an attention map that belongs to the pooled query, MST eq. 4 before the mean over heads.

    Computed beside the fused attention of the block: one query against all keys, O(L) in time and memory.

    Args:
        attention: that of the block.
        tokens: (B, E + R + L, C), normalized input of that block, the class token first, then the registers.
        class_tokens: E, 1 or 0; with a class token the query is that token's, without one the mean of the patches'.
        registers: R.
        bias: of the logits, (N, T, T) or (B, N, T, T) with T = E + R + L, or None.

    Returns:
        (B, N, L) float32: softmax over all E + R + L keys, of which the L patches are kept.
    """
    dims, heads = attention.embed_dims, attention.num_heads
    weight, shift = attention.qkv.weight, attention.projection_bias()
    source = tokens[:, :1] if class_tokens else tokens[:, registers:].mean(dim=1, keepdim=True)
    query = F.linear(source, weight[:dims], None if shift is None else shift[:dims])
    key = F.linear(tokens, weight[dims : 2 * dims], None if shift is None else shift[dims : 2 * dims])
    batch, length = tokens.shape[:2]
    query = query.view(batch, 1, heads, dims // heads).transpose(1, 2).float()
    key = key.view(batch, length, heads, dims // heads).transpose(1, 2).float()
    # Autocast would take the product, and with it the ranking of the patches, back to half precision.
    with torch.autocast(tokens.device.type, enabled=False):
        logits = query @ key.transpose(-2, -1) * attention.head_dims**-0.5
        if bias is not None:
            near = bias[..., :1, :] if class_tokens else bias[..., registers:, :].mean(dim=-2, keepdim=True)
            logits = logits + near.float()
        row = torch.softmax(logits, dim=-1)
    return row[:, :, 0, class_tokens + registers :]
