"""MAE's decoder: a small transformer over the encoder's tokens and [MASK] tokens in place of hidden patches."""

from __future__ import annotations

from torch import Tensor, nn

from mstkit.models.decoders.transformer_decoder import TransformerDecoder
from mstkit.models.encoder_layer import EncoderLayer, TransformerEncoderLayer
from mstkit.registry import MODELS
from mstkit.structures import TokenOutput, VisibleOutput


@MODELS.register_module()
class ViTDecoder(TransformerDecoder):
    """A transformer that predicts every patch (MAE, He et al., CVPR 2022, section 3 "MAE decoder").

    Linear embedding, a learned [MASK] token for every hidden patch, fixed sine-cosine positions of all patches,
    transformer layers, a norm and a linear layer. Thrown patches, the class token and encoders with [MASK] tokens of
    their own are treated as :class:`TransformerDecoder` says.

    Args:
        in_channels: see :class:`TokenDecoder`; so are ``out_channels``, ``class_token`` and ``visible_only``.
        embed_dims: width, a multiple of 4 and of ``num_heads``.
        num_layers: number of transformer layers.
        num_heads: attention heads per layer.
        mlp_ratio: hidden width of the MLPs, as a multiple of ``embed_dims``.
        scale: see :class:`TransformerDecoder`.

    Raises:
        UsageError: an ``embed_dims`` that is not such a multiple; a scale that is no power of two.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        class_token: bool = False,
        visible_only: bool = False,
        embed_dims: int = 512,
        num_layers: int = 8,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        scale: float = 1.0,
        init_cfg: dict | None = None,
    ) -> None:
        sizes = (embed_dims, num_layers, num_heads, mlp_ratio)
        super().__init__(in_channels, out_channels, class_token, visible_only, *sizes, scale, init_cfg)

    def _divisors(self, num_heads: int) -> dict[str, int]:
        return dict(num_heads=num_heads, **super()._divisors(num_heads))

    def _make_layer(self, width: int, num_heads: int, hidden: int) -> nn.Module:
        norm = dict(type='LN', eps=1e-6)
        return EncoderLayer(TransformerEncoderLayer(width, num_heads, hidden, norm_cfg=norm))

    def _placed(self, tokens: Tensor, seen: TokenOutput | VisibleOutput) -> Tensor:
        if isinstance(seen, VisibleOutput):
            assert self.mask_token is not None
            tokens = self._spread(tokens, seen, self.mask_token)
        return tokens + self._positions_of(seen.grid, tokens.device).to(tokens.dtype)
