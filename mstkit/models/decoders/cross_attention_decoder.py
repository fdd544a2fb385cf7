"""BootMAE's decoder: a small transformer that also attends to the output of one of the encoder's blocks."""

from __future__ import annotations

from typing import Any

import torch
from mmcv.cnn.bricks.transformer import FFN
from torch import Tensor, nn
from torch.nn import functional as F

from mstkit.errors import UsageError
from mstkit.models.attention_kernel import attend
from mstkit.models.decoders.transformer_decoder import TransformerDecoder
from mstkit.models.memory_lean_linear import LeanFFN
from mstkit.models.weight_casts import CastBlock
from mstkit.registry import MODELS
from mstkit.structures import TokenOutput, VisibleOutput
from mstkit.utils.checks import check_count, check_size


@MODELS.register_module()
class CrossAttentionDecoder(TransformerDecoder):
    """A transformer whose layers read a block of the encoder by cross-attention (BootMAE, Dong et al., ECCV 2022).

    What the target needs of the visible patches comes to the decoder from that block, so that the encoder's last block
    need not keep it ("feature injection"): from the first block for pixels, from the last one for features. A layer is
    self-attention over the tokens of all patches, cross-attention from them to the class token and the visible patches
    of that block, without the encoder's final norm, and an MLP, each after a norm and added.

    Fixed sine-cosine positions are added to [MASK] tokens alone, as in BootMAE's code: the others have theirs from the
    encoder. Thrown patches, the class token and encoders with [MASK] tokens of their own are treated as
    :class:`TransformerDecoder` says; the latter's tokens in hidden places are attended to as well.

    Args:
        in_channels: see :class:`TokenDecoder`; so are ``out_channels``, ``class_token`` and ``visible_only``.
        attends_to: the block of the encoder, 1 for the first or -1 for the last; of a Swin, of those of the last stage.
        embed_dims: width, a multiple of 4; None for that of the encoder.
        num_layers: number of transformer layers.
        num_heads: attention heads per layer, of ``embed_dims // num_heads`` channels each: 42 of the 512 channels of
            BootMAE's pixel decoder.
        mlp_ratio: hidden width of the MLPs, as a multiple of ``embed_dims``.
        scale: see :class:`TransformerDecoder`.

    Raises:
        UsageError: an ``embed_dims`` that is no multiple of 4, or below ``num_heads``; a scale that is no power of two.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        class_token: bool = False,
        visible_only: bool = False,
        attends_to: int = -1,
        embed_dims: int | None = None,
        num_layers: int = 2,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        scale: float = 1.0,
        init_cfg: dict | None = None,
    ) -> None:
        if check_count('CrossAttentionDecoder.attends_to', attends_to, -1000, 1000) == 0:
            raise UsageError('CrossAttentionDecoder.attends_to is 0: give 1 for the first block, or -1 for the last')
        if embed_dims is None and check_size('CrossAttentionDecoder.in_channels', in_channels) % 4:
            raise UsageError(
                f'CrossAttentionDecoder.in_channels is {in_channels}, no multiple of 4: give embed_dims, one that is'
            )
        self.attends_to = attends_to
        sizes = (in_channels if embed_dims is None else embed_dims, num_layers, num_heads, mlp_ratio)
        super().__init__(in_channels, out_channels, class_token, visible_only, *sizes, scale, init_cfg)
        self.student_layers = max(1, -attends_to)

    def _make_layer(self, width: int, num_heads: int, hidden: int) -> nn.Module:
        if width < num_heads:
            raise UsageError(
                f'CrossAttentionDecoder.num_heads is {num_heads}, more than the {width} channels of embed_dims: give '
                'fewer'
            )
        return CrossAttentionLayer(width, self.in_channels, num_heads, hidden)

    def _init_own_weights(self) -> None:
        """As BootMAE's code: keys and values of the cross-attention as one matrix, the [MASK] token cut off at 0.02."""
        super()._init_own_weights()
        for layer in self.layers:
            assert isinstance(layer, CrossAttentionLayer)
            layer.init_cross_attention()
        if self.mask_token is not None:
            nn.init.trunc_normal_(self.mask_token, std=0.02, a=-0.02, b=0.02)

    def _placed(self, tokens: Tensor, seen: TokenOutput | VisibleOutput) -> Tensor:
        if not isinstance(seen, VisibleOutput):
            return tokens
        assert self.mask_token is not None
        hidden = self.mask_token + self._positions_of(seen.grid, tokens.device).to(self.mask_token.dtype)
        return self._spread(tokens, seen, F.pad(hidden, (0, 0, 0, 1)))

    def _reads(self, seen: TokenOutput | VisibleOutput) -> dict[str, Any]:
        """``memory`` (B, M, C), class token and patches of the block, and ``known`` (B, M), False for padding."""
        memory, known = seen.layers[-self.student_layers], None
        if isinstance(seen, VisibleOutput) and seen.padded:
            known = seen.places >= 0
        if seen.class_tokens:
            memory = torch.cat((seen.class_tokens[-self.student_layers][:, None], memory), dim=1)
            known = None if known is None else F.pad(known, (1, 0), value=True)
        return dict(memory=memory, known=known)


@CastBlock.register
class CrossAttentionLayer(nn.Module):
    """Self-attention, cross-attention and an MLP (BootMAE's ``Decode_Block``).

    Args:
        width: channels of the tokens.
        memory_dims: channels of what the cross-attention reads.
        num_heads: of both attentions.
        hidden: width of the MLP.
    """

    def __init__(self, width: int, memory_dims: int, num_heads: int, hidden: int) -> None:
        super().__init__()
        self.ln1, self.attn = nn.LayerNorm(width, eps=1e-6), HeadedAttention(width, width, num_heads)
        self.ln_query, self.ln_memory = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(memory_dims, eps=1e-6)
        self.cross = HeadedAttention(width, memory_dims, num_heads)
        self.ln2 = nn.LayerNorm(width, eps=1e-6)
        self.ffn = LeanFFN(FFN(width, hidden, act_cfg=dict(type='GELU')))

    def init_cross_attention(self) -> None:
        """Xavier-uniform for keys and values as one matrix of the cross-attention."""
        key, value = self.cross.key.weight, self.cross.value.weight
        bound = (6 / (key.shape[0] + value.shape[0] + key.shape[1])) ** 0.5
        for weight in (key, value):
            nn.init.uniform_(weight, -bound, bound)

    def forward(self, x: Tensor, memory: Tensor, present: Tensor | None = None, known: Tensor | None = None) -> Tensor:
        """Tokens (B, T, width), and memory (B, M, memory_dims); (B, T) and (B, M) bool, False for padding, or None."""
        normed = self.ln1(x)
        x = x + self.attn(normed, normed, present)
        x = x + self.cross(self.ln_query(x), self.ln_memory(memory), known)
        return x + self.ffn.feed(x, self.ln2)


class HeadedAttention(nn.Module):
    """Multi-head attention with queries of one sequence, and keys, without a bias, and values of another.

    Args:
        width: channels of input and output.
        memory_dims: channels of what is attended to.
        num_heads: heads, of ``width // num_heads`` channels each.
    """

    def __init__(self, width: int, memory_dims: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads, inner = num_heads, width // num_heads * num_heads
        self.query = nn.Linear(width, inner)
        self.key = nn.Linear(memory_dims, inner, bias=False)  # a bias of the keys cancels in the softmax
        self.value = nn.Linear(memory_dims, inner)
        self.proj = nn.Linear(inner, width)

    def forward(self, x: Tensor, memory: Tensor, known: Tensor | None) -> Tensor:
        """Tokens (B, T, width) attend to memory (B, M, memory_dims), where ``known`` (B, M) is not False."""
        made = (self.query(x), self.key(memory), self.value(memory))
        query, key, value = (one.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for one in made)  # (B, N, T, d)
        mixed = attend(query, key, value, mask=None if known is None else known[:, None, None])
        return self.proj(mixed.transpose(1, 2).flatten(2))
