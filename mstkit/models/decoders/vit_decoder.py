"""MAE's decoder: a small transformer over the encoder's tokens and [MASK] tokens in place of hidden patches."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mstkit.errors import UsageError
from mstkit.models.decoders.scaled_prediction import ScaledPrediction
from mstkit.models.decoders.token_decoder import TokenDecoder
from mstkit.models.encoder_layer import EncoderLayer, TransformerEncoderLayer
from mstkit.registry import MODELS
from mstkit.structures import TokenOutput, VisibleOutput
from mstkit.utils.checks import check_count, check_number, check_size
from mstkit.utils.sincos_positions import sincos_positions
from mstkit.utils.visible_places import visible_places


@MODELS.register_module()
class ViTDecoder(TokenDecoder):
    """A transformer that predicts every patch (MAE, He et al., CVPR 2022, section 3 "MAE decoder").

    Linear embedding, a learned [MASK] token for every hidden patch, fixed sine-cosine positions, transformer layers, a
    norm and a linear layer. Thrown patches have no token in the layers (AMT, arXiv 2211.15362), which are cheaper for
    it. The class token passes through the layers with a position of zeros and is dropped at the end. If the encoder was
    given [MASK] tokens itself (not ``visible_only``), the decoder has no [MASK] token.

    Args:
        in_channels: see :class:`TokenDecoder`; so are ``out_channels``, ``class_token`` and ``visible_only``.
        embed_dims: width, a multiple of 4 and of ``num_heads``.
        num_layers: number of transformer layers.
        num_heads: attention heads per layer.
        mlp_ratio: hidden width of the MLPs, as a multiple of ``embed_dims``.
        scale: of the predicted grid, a power of two, see :class:`TokenDecoder`; with another than 1 the last layer is a
            :class:`ScaledPrediction`.

    Raises:
        UsageError: an ``embed_dims`` that is not such a multiple; a scale that is no power of two.
    """

    scales = True

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
        super().__init__(in_channels, out_channels, class_token, visible_only, init_cfg, scale)
        width = check_size('ViTDecoder.embed_dims', embed_dims)
        check_count('ViTDecoder.num_layers', num_layers, 1, 1000)
        check_count('ViTDecoder.num_heads', num_heads, 1)
        check_number('ViTDecoder.mlp_ratio', mlp_ratio, 1 / width, 64)
        for name, divisor in dict(num_heads=num_heads, positions=4).items():
            if width % divisor:
                raise UsageError(f'ViTDecoder.embed_dims is {width}: give a multiple of {divisor} ({name}).')
        self.embed = nn.Linear(in_channels, width)
        # (1, 1, C) as in MAE, so that weight decay applies to it (one-dimensional parameters are skipped).
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width)) if visible_only else None
        norm = dict(type='LN', eps=1e-6)
        self.layers = nn.ModuleList(
            EncoderLayer(TransformerEncoderLayer(width, num_heads, int(mlp_ratio * width), norm_cfg=norm))
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.predict = nn.Linear(width, out_channels) if scale == 1 else ScaledPrediction(width, out_channels, scale)
        self._positions: dict[tuple[tuple[int, int], torch.device], Tensor] = {}
        self._init_own_weights()

    def init_weights(self) -> None:
        """As MAE's code: linear layers Xavier-uniform with zero biases, the [MASK] token normal, 0.02."""
        super().init_weights()
        self._init_own_weights()

    def _init_own_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if self.mask_token is not None:
            nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, seen: TokenOutput | VisibleOutput) -> Tensor:
        """See :meth:`TokenDecoder.forward`."""
        tokens = self.embed(seen.patch_tokens)
        if isinstance(seen, VisibleOutput):
            tokens = self._with_hidden(tokens, seen.places, seen.grid)
        tokens = tokens + self._positions_of(seen.grid, tokens.device).to(tokens.dtype)
        thrown = seen.thrown if isinstance(seen, VisibleOutput) else None
        places, present, length = None, None, tokens.shape[1]
        if thrown is not None:
            places, present = visible_places(thrown.flatten(1), True)  # (B, T) both
            tokens = tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[-1]))
        real = present
        if self.class_token:
            tokens = torch.cat((self.embed(seen.pooled)[:, None].to(tokens.dtype), tokens), dim=1)
            real = None if present is None else F.pad(present, (1, 0), value=True)
        for layer in self.layers:
            tokens = layer(tokens, present=real)
        tokens = self.norm(tokens[:, int(self.class_token) :])
        if places is not None:  # back onto the grid, with one extra row for padding
            places = places if present is None else places.masked_fill(~present, length)
            whole = tokens.new_zeros(len(tokens), length + 1, tokens.shape[-1])
            tokens = whole.scatter(1, places[..., None].expand_as(tokens), tokens)[:, :length]
        return self.predict(tokens) if self.scale == 1 else self.predict(tokens, seen.grid)

    def _with_hidden(self, tokens: Tensor, places: Tensor, grid: tuple[int, int]) -> Tensor:
        """Scatters visible tokens (B, V, C) to their patches, the [MASK] token elsewhere: (B, L, C)."""
        assert self.mask_token is not None
        batch, length = len(tokens), grid[0] * grid[1]
        whole = self.mask_token.expand(batch, length + 1, -1)  # one extra row, to which padding is scattered
        index = places.where(places >= 0, length)[..., None].expand_as(tokens)
        return whole.scatter(1, index, tokens.to(whole.dtype))[:, :length]

    def _positions_of(self, grid: tuple[int, int], device: torch.device) -> Tensor:
        """Fixed positions (1, L, C), computed from the grid and cached; not part of the state dict."""
        key = (grid, device)
        if key not in self._positions:
            self._positions[key] = sincos_positions(grid, self.embed.out_features).to(device)
        return self._positions[key]
