"""Predicts values on a finer or a coarser grid than that of the tokens."""

from __future__ import annotations

import math

from torch import Tensor, nn

from mstkit.errors import UsageError


class ScaledPrediction(nn.Module):
    """The last layers of LocalMIM's decoders (Wang et al., CVPR 2023, section 3.2), as in its code.

    For a finer grid transposed 2x2 convolutions of stride 2, each with half of the channels of the one before, with
    LayerNorm and GELU in between; for a coarser grid mean pooling. Then a 1x1 convolution.

    Args:
        in_channels: C of the tokens.
        out_channels: D.
        scale: cells of the predicted grid along a side of a token: 2 or 4 for a finer one, 1/2 or 1/4 for a coarser.

    Raises:
        UsageError: a scale that is no power of two, or too large for so many channels.
    """

    def __init__(self, in_channels: int, out_channels: int, scale: float) -> None:
        super().__init__()
        mantissa, exponent = math.frexp(scale) if isinstance(scale, int | float) and scale > 0 else (0.0, 0)
        if mantissa != 0.5:
            raise UsageError(f'scale is a power of two, such as 2 or 0.5, not {scale!r}')
        doublings = exponent - 1
        if doublings > 0 and in_channels % 2**doublings:
            raise UsageError(
                f'scale is {scale:g}, which halves the channels {doublings} times, and {in_channels} cannot be halved '
                f'so often: give a decoder whose embed_dims is a multiple of {2**doublings}'
            )
        layers: list[nn.Module] = []
        for step in range(doublings):
            if step:
                layers += [_ChannelNorm(in_channels), nn.GELU()]
            layers.append(nn.ConvTranspose2d(in_channels, in_channels // 2, kernel_size=2, stride=2))
            in_channels //= 2
        self.pooled = 2 ** max(0, -doublings)  # tokens along a side of a cell of a coarser grid
        if self.pooled > 1:
            layers.append(nn.AvgPool2d(self.pooled))
        self.layers = nn.Sequential(*layers)
        self.to_values = nn.Conv2d(in_channels, out_channels, kernel_size=1)

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Predicts.

        Args:
            tokens: (B, h*w, C), row-major.
            grid: (h, w).

        Returns:
            (B, h*w*scale², D), row-major over the grid (h*scale, w*scale).

        Raises:
            UsageError: a coarser grid that h or w is no multiple of.
        """
        if grid[0] % self.pooled or grid[1] % self.pooled:
            raise UsageError(
                f'scale is {1 / self.pooled:g}, and {grid[0]}x{grid[1]} patches cannot be joined in squares of '
                f'{self.pooled}x{self.pooled}: use another view size'
            )
        maps = tokens.transpose(1, 2).unflatten(2, grid)  # (B, C, h, w)
        return self.to_values(self.layers(maps)).flatten(2).transpose(1, 2)


class _ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of a map (B, C, h, w)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
