"""Base class of decoders that are a small transformer over the encoder's tokens and [MASK] tokens."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mstkit.errors import UsageError
from mstkit.models.decoders.scaled_prediction import ScaledPrediction
from mstkit.models.decoders.token_decoder import TokenDecoder
from mstkit.structures import TokenOutput, VisibleOutput
from mstkit.utils.checks import check_count, check_number, check_size
from mstkit.utils.device_copies import copied_to
from mstkit.utils.sincos_positions import sincos_positions
from mstkit.utils.visible_places import visible_places


class TransformerDecoder(TokenDecoder):
    """Linear embedding, tokens on the whole grid, transformer layers, a norm and a linear layer.

    A subclass says of what kind the layers are and which tokens get positions. Thrown patches have no token in the
    layers (AMT, arXiv 2211.15362), which are cheaper for it. The class token passes through the layers with a position
    of zeros and is dropped at the end. If the encoder was given [MASK] tokens itself (not ``visible_only``), the
    decoder has no [MASK] token.

    Args:
        in_channels: see :class:`TokenDecoder`; so are ``out_channels``, ``class_token`` and ``visible_only``.
        embed_dims: width, a multiple of 4.
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
        class_token: bool,
        visible_only: bool,
        embed_dims: int,
        num_layers: int,
        num_heads: int,
        mlp_ratio: float,
        scale: float,
        init_cfg: dict | None,
    ) -> None:
        super().__init__(in_channels, out_channels, class_token, visible_only, init_cfg, scale)
        name = type(self).__name__
        width = check_size(f'{name}.embed_dims', embed_dims)
        check_count(f'{name}.num_layers', num_layers, 1, 1000)
        check_count(f'{name}.num_heads', num_heads, 1)
        check_number(f'{name}.mlp_ratio', mlp_ratio, 1 / width, 64)
        for what, divisor in self._divisors(num_heads).items():
            if width % divisor:
                raise UsageError(f'{name}.embed_dims is {width}: give a multiple of {divisor} ({what}).')
        self.embed = nn.Linear(in_channels, width)
        # (1, 1, C) as in MAE, so that weight decay applies to it (one-dimensional parameters are skipped).
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width)) if visible_only else None
        self.layers = nn.ModuleList(
            self._make_layer(width, num_heads, int(mlp_ratio * width)) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.predict = nn.Linear(width, out_channels) if scale == 1 else ScaledPrediction(width, out_channels, scale)
        self._positions: dict[tuple[tuple[int, int], torch.device], Tensor] = {}
        self._init_own_weights()

    def _divisors(self, num_heads: int) -> dict[str, int]:
        """What the width has to be a multiple of, by the reason."""
        return dict(positions=4)

    @abstractmethod
    def _make_layer(self, width: int, num_heads: int, hidden: int) -> nn.Module:
        """A layer, which takes tokens (B, T, width), ``present`` (B, T) bool or None, and what :meth:`_reads` gives."""

    @abstractmethod
    def _placed(self, tokens: Tensor, seen: TokenOutput | VisibleOutput) -> Tensor:
        """The embedded patch tokens with positions, (B, L, width), [MASK] tokens where ``seen`` has none."""

    def _reads(self, seen: TokenOutput | VisibleOutput) -> dict[str, Any]:
        """Further arguments of the layers."""
        return {}

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
        tokens = self._placed(self.embed(seen.patch_tokens), seen)
        thrown = seen.thrown if isinstance(seen, VisibleOutput) else None
        places, present, length = None, None, tokens.shape[1]
        if thrown is not None:
            places, present = visible_places(thrown.flatten(1), True)  # (B, T) both
            tokens = tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[-1]))
        real = present
        if self.class_token:
            tokens = torch.cat((self.embed(seen.pooled)[:, None].to(tokens.dtype), tokens), dim=1)
            real = None if present is None else F.pad(present, (1, 0), value=True)
        reads = self._reads(seen)
        for layer in self.layers:
            tokens = layer(tokens, present=real, **reads)
        tokens = self.norm(tokens[:, int(self.class_token) :])
        if places is not None:  # back onto the grid, with one extra row for padding
            places = places if present is None else places.masked_fill(~present, length)
            whole = tokens.new_zeros(len(tokens), length + 1, tokens.shape[-1])
            tokens = whole.scatter(1, places[..., None].expand_as(tokens), tokens)[:, :length]
        return self.predict(tokens) if self.scale == 1 else self.predict(tokens, seen.grid)

    def _positions_of(self, grid: tuple[int, int], device: torch.device) -> Tensor:
        """Fixed positions (1, L, C), computed from the grid and cached; not part of the state dict."""
        key = (grid, device)
        if key not in self._positions:
            self._positions[key] = copied_to(sincos_positions(grid, self.embed.out_features), device)
        return self._positions[key]
