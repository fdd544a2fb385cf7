"""How much attention each patch gets in a block of a ViT: the scores by which a guided masker ranks patches.

:data:`SCORES` names them. Another score is a function with the arguments of :func:`pooled_attention` and an entry.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from mstkit.models.encoder_attention import EncoderAttention
from mstkit.utils.rotary_positions import Rotation


def pooled_attention(
    attention: EncoderAttention,
    tokens: Tensor,
    class_tokens: int,
    registers: int = 0,
    bias: Tensor | Rotation | None = None,
) -> Tensor:
    """Attention from the pooled query to each patch, per head (MST eq. 4 before the mean over heads).

    Computed separately from the block's fused attention, for one query: O(L) in time and memory.

    Args:
        attention: the block's attention.
        tokens: (B, E + R + L, C), the block's input after its norm: class token, registers, patches.
        class_tokens: E, 1 or 0; the query is that of the class token, or without one that of the patches' mean.
        registers: R.
        bias: of the logits, (N, T, T) or (B, N, T, T) with T = E + R + L; or the rotation of queries and keys; or None.

    Returns:
        (B, N, L) float32: the part for the L patches of a softmax over all E + R + L keys.
    """
    dims, heads = attention.embed_dims, attention.num_heads
    weight, shift = attention.qkv.weight, attention.projection_bias()
    turned = isinstance(bias, Rotation) and not class_tokens  # each query by its own angle, before the mean of them
    source = tokens if turned else tokens[:, :1] if class_tokens else tokens[:, registers:].mean(dim=1, keepdim=True)
    query = F.linear(source, weight[:dims], None if shift is None else shift[:dims])
    key = F.linear(tokens, weight[dims : 2 * dims], None if shift is None else shift[dims : 2 * dims])
    batch, length = tokens.shape[:2]
    query = query.view(batch, -1, heads, dims // heads).transpose(1, 2).float()  # (B, N, 1, d)
    key = key.view(batch, length, heads, dims // heads).transpose(1, 2).float()  # (B, N, T, d)
    if isinstance(bias, Rotation):
        query = query if class_tokens else bias.turn(query)[:, :, registers:].mean(dim=2, keepdim=True)
        key, bias = bias.turn(key), None
    # In float32: autocast would compute the logits, and so rank the patches, in half precision.
    with torch.autocast(tokens.device.type, enabled=False):
        logits = query @ key.transpose(-2, -1) * attention.head_dims**-0.5
        if bias is not None:
            near = bias[..., :1, :] if class_tokens else bias[..., registers:, :].mean(dim=-2, keepdim=True)
            logits = logits + near.float()
        row = torch.softmax(logits, dim=-1)  # (B, N, 1, T)
    return row[:, :, 0, class_tokens + registers :]


def received_attention(
    attention: EncoderAttention,
    tokens: Tensor,
    class_tokens: int,
    registers: int = 0,
    bias: Tensor | Rotation | None = None,
) -> Tensor:
    """The mean attention that each patch receives from all patches, itself included.

    For encoders whose class token nothing supervises (MAE, SimMIM). Head by head, so that one (B, L, T) map is in
    memory at a time.

    Args:
        attention: that of the block.
        tokens: (B, E + R + L, C), normalized input of that block, the class token first, then the registers.
        class_tokens: E, 1 or 0.
        registers: R.
        bias: of the logits, (N, T, T) or (B, N, T, T) with T = E + R + L; or the rotation of queries and keys; or None.

    Returns:
        (B, N, L) float32: softmax over all E + R + L keys, mean over the L queries of patches; class token and
        registers neither ask nor are ranked.
    """
    dims, heads, extra = attention.embed_dims, attention.num_heads, class_tokens + registers
    weight, shift = attention.qkv.weight, attention.projection_bias()
    both = F.linear(tokens, weight[: 2 * dims], None if shift is None else shift[: 2 * dims])
    query, key = both.view(*tokens.shape[:2], 2, heads, dims // heads).permute(2, 3, 0, 1, 4).float().unbind(0)
    if isinstance(bias, Rotation):
        # (N, B, T, d): turned as (B, N, T, d)
        query, key = (bias.turn(part.transpose(0, 1)).transpose(0, 1) for part in (query, key))
        bias = None
    received = []
    # In float32: autocast would compute the logits, and so rank the patches, in half precision.
    with torch.autocast(tokens.device.type, enabled=False):
        for head in range(heads):
            logits = query[head, :, extra:] @ key[head].transpose(-2, -1) * attention.head_dims**-0.5
            if bias is not None:
                logits = logits + bias[..., head, extra:, :].float()
            received.append(torch.softmax(logits, dim=-1)[..., extra:].mean(dim=1))
    return torch.stack(received, dim=1)


Score = Callable[..., Tensor]
SCORES: dict[str, Score] = {'class_token': pooled_attention, 'received': received_attention}
