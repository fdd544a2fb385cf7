"""data2vec 2.0's decoder: a few grouped convolutions over the grid of patches."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mstkit.errors import UsageError
from mstkit.models.decoders.token_decoder import TokenDecoder
from mstkit.registry import MODELS
from mstkit.structures import TokenOutput, VisibleOutput
from mstkit.utils.checks import check_count, check_number, check_size


@MODELS.register_module()
class ConvDecoder(TokenDecoder):
    """Convolutions over the tokens as a map (h, w), noise in hidden places (data2vec 2.0, Baevski et al., ICML 2023,
    arXiv 2212.07525; ``Decoder2d`` of its code).

    Each layer is a grouped convolution, a LayerNorm over the channels without parameters and GELU, added to its input
    where that has as many channels; a linear layer predicts. There are no positions, which the encoder's tokens have
    and the borders show. Hidden patches start as normal noise, which is drawn anew in every training step and is 0 in
    evaluation, not as a learned [MASK] token. Where the encoder was given [MASK] tokens itself (not ``visible_only``)
    there is no noise. A class token is not read. Thrown patches are zeros like what lies beyond the border.

    Args:
        in_channels: see :class:`TokenDecoder`; so are ``out_channels``, ``class_token`` and ``visible_only``.
        embed_dims: channels of the convolutions; None for those of the encoder, as in data2vec 2.0 for images.
        num_layers: number of convolutions.
        kernel_size: of the convolutions, an odd number of patches.
        groups: of the convolutions, a divisor of the channels.
        noise_std: standard deviation of the noise.
        scale: 1, see :class:`TokenDecoder`.

    Raises:
        UsageError: an even kernel; groups that do not divide the channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        class_token: bool = False,
        visible_only: bool = False,
        embed_dims: int | None = None,
        num_layers: int = 6,
        kernel_size: int = 3,
        groups: int = 16,
        noise_std: float = 0.01,
        init_cfg: dict | None = None,
        scale: float = 1.0,
    ) -> None:
        super().__init__(in_channels, out_channels, class_token, visible_only, init_cfg, scale)
        width = self.in_channels if embed_dims is None else check_size('ConvDecoder.embed_dims', embed_dims)
        check_count('ConvDecoder.num_layers', num_layers, 1, 1000)
        if check_count('ConvDecoder.kernel_size', kernel_size, 1, 31) % 2 == 0:
            raise UsageError(
                f'ConvDecoder.kernel_size is {kernel_size}: give an odd number, with a patch in the middle'
            )
        check_count('ConvDecoder.groups', groups, 1)
        for name, channels in dict(in_channels=self.in_channels, embed_dims=width).items():
            if channels % groups:
                raise UsageError(f'ConvDecoder.groups is {groups}, which does not divide the {channels} of {name}')
        self.noise_std = check_number('ConvDecoder.noise_std', noise_std, 0, 1e3)
        self.layers = nn.ModuleList(
            nn.Conv2d(
                self.in_channels if i == 0 else width, width, kernel_size, padding=kernel_size // 2, groups=groups
            )
            for i in range(num_layers)
        )
        self.predict = nn.Linear(width, self.out_channels)

    def forward(self, seen: TokenOutput | VisibleOutput) -> Tensor:
        """See :meth:`TokenDecoder.forward`."""
        tokens = seen.patch_tokens
        if isinstance(seen, VisibleOutput):
            tokens = self._spread(tokens, seen, self._noise(tokens, seen))
        x = tokens.transpose(1, 2).unflatten(2, seen.grid)  # (B, C, h, w)
        for layer in self.layers:
            made = layer(x).movedim(1, -1)
            made = F.gelu(F.layer_norm(made, made.shape[-1:])).movedim(-1, 1)
            x = x + made if x.shape == made.shape else made
        return self.predict(x.flatten(2).transpose(1, 2))

    def _noise(self, tokens: Tensor, seen: VisibleOutput) -> Tensor:
        """What stands in every place before visible tokens do, (B, L + 1, C): the last row is that of padding."""
        shape = (len(tokens), seen.grid[0] * seen.grid[1] + 1, self.in_channels)
        if not self.training or not self.noise_std:
            return tokens.new_zeros(shape)
        noise = torch.empty(shape, dtype=tokens.dtype, device=tokens.device).normal_(0, self.noise_std)
        return noise if seen.thrown is None else noise.masked_fill(F.pad(seen.thrown.flatten(1), (0, 1))[..., None], 0)
