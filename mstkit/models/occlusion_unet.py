"""ADIOS's occlusion network: a small U-Net that says of every pixel to which of N masks it belongs."""

from __future__ import annotations

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F

from mstkit.errors import UsageError
from mstkit.registry import MODELS
from mstkit.utils.checks import check_count, check_number, check_size

GROUPS = 8  # of the group norms
HIDDEN = 128  # channels of the layers at the lowest resolution that see the whole image


@MODELS.register_module()
class OcclusionUNet(BaseModule):
    """Images (B, 3, H, W), normalized, to logits (B, N, H, W) of N masks (ADIOS, Shi et al., ICML 2022, 2201.13100).

    As in ADIOS's code: blocks of a 3×3 convolution, group norm and ReLU, on resolutions that are halved from block to
    block (every second pixel); three linear layers on the whole of the last; then as many blocks upwards, each on the
    output of the one below, enlarged by repetition, and of the one at its own resolution; a 1×1 convolution. The three
    lowest resolutions have twice the ``channels``.

    An image of any size is taken: where the last resolution is not ``bottleneck``, the linear layers see its means on
    that grid.

    Args:
        masks: N.
        channels: of the blocks at high resolution, a multiple of 8.
        blocks: number of resolutions; ADIOS takes 5 for 64 and 96 px, 6 for 224 px.
        bottleneck: side of the grid on which the linear layers work, side of the images / 2^(blocks − 1).
        lr_mult: the learning rate of this network, as a multiple of the model's.

    Raises:
        UsageError: a number of channels that is no multiple of 8.
    """

    def __init__(
        self,
        masks: int = 4,
        channels: int = 32,
        blocks: int = 5,
        bottleneck: int = 4,
        lr_mult: float = 1.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.masks = check_count('OcclusionUNet.masks', masks, 2, 64)
        width = check_size('OcclusionUNet.channels', channels, GROUPS, 4096)
        if width % GROUPS:
            raise UsageError(
                f'OcclusionUNet.channels is {channels}, but its norms have {GROUPS} groups: give a multiple of {GROUPS}'
            )
        count = check_count('OcclusionUNet.blocks', blocks, 2, 10)
        self.bottleneck = check_count('OcclusionUNet.bottleneck', bottleneck, 1, 64)
        self.lr_mult = check_number('OcclusionUNet.lr_mult', lr_mult, 0, 1e6)
        narrow = max(1, count - 3)
        down = [width] * narrow + [2 * width] * (count - narrow)
        self.down = nn.ModuleList(_block(i, o) for i, o in zip([3, *down[:-1]], down, strict=True))
        inner = down[-1] * self.bottleneck**2
        self.whole = nn.Sequential(
            nn.Flatten(),
            *(nn.Linear(inner, HIDDEN), nn.ReLU()),
            *(nn.Linear(HIDDEN, HIDDEN), nn.ReLU()),
            *(nn.Linear(HIDDEN, inner), nn.ReLU()),
        )
        up = [*down[-2::-1], width]
        below = [down[-1], *up[:-1]]
        self.up = nn.ModuleList(
            _block(lower + skip, out) for lower, skip, out in zip(below, down[::-1], up, strict=True)
        )
        self.to_masks = nn.Conv2d(width, self.masks, 1)

    def check_image_size(self, size: int) -> None:
        """Refuses images, of so many pixels a side, that are too small for its resolutions. Raises UsageError."""
        halvings = len(self.down) - 1
        if size < 2**halvings:
            raise UsageError(
                f'OcclusionUNet halves a view {halvings} times, which {size} px cannot be: give fewer '
                f'occlusion.blocks, or views of {2**halvings} px or more'
            )

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, N, H, W) of the masks of each pixel."""
        kept: list[Tensor] = []
        x = images
        for block in self.down:
            x = block(x if not kept else x[:, :, ::2, ::2])
            kept.append(x)
        grid = F.adaptive_avg_pool2d(x, self.bottleneck)
        x = self.whole(grid).view_as(grid)
        for block in self.up:
            skip = kept.pop()
            x = block(torch.cat([F.interpolate(x, skip.shape[-2:], mode='nearest'), skip], dim=1))
        return self.to_masks(x)


def _block(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.GroupNorm(GROUPS, out_channels),
        nn.ReLU(inplace=True),
    )
