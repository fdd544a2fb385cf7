"""MST's global image decoder."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mstkit.errors import UsageError
from mstkit.models.decoders.normed_conv import doubled, normed_conv
from mstkit.models.view_batch_norm import BATCH_NORMS
from mstkit.registry import MODELS
from mstkit.utils.checks import check_one_of, check_size


class _ConvNorm(nn.Module):
    """3×3 convolution and batch normalization; :func:`normed_conv` goes from one's normalization to the next one."""

    def __init__(self, in_channels: int, channels: int, batch_norm: bool) -> None:
        super().__init__()
        # No bias before batch normalization, which would remove it.
        self.conv = nn.Conv2d(in_channels, channels, 3, padding=1, bias=not batch_norm)
        self.norm = nn.BatchNorm2d(channels) if batch_norm else nn.Identity()


@MODELS.register_module()
class CNNImageDecoder(BaseModule):
    """Restores the image from all patch tokens, hidden or not (MST section 3.3, eq. 9).

    Convolution and 2× upsampling alternate until the full resolution is reached: four times from H/16, five from
    Swin's H/32. The paper does not specify channels, kernel size and upsampling; they are those of SETR-PUP, whose
    design the paper follows. The last layer is linear, so that any normalized pixel value can be predicted.

    Args:
        in_channels: C of the patch tokens.
        stride: pixels per patch token, a power of two.
        channels: width of every convolution.
        batch_norm: after each convolution: None or False, none; 'global_only' or True, batch statistics of each view
            by itself (MST); 'all', of all views together. The names are those of :class:`DINONeck`; all reconstructed
            views are global, so all of them update the running statistics.
        out_channels: 3 for RGB.

    Raises:
        UsageError: a stride that is not a power of two.
    """

    def __init__(
        self,
        in_channels: int,
        stride: int = 16,
        channels: int = 256,
        batch_norm: Literal['global_only', 'all'] | bool | None = True,
        out_channels: int = 3,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        for name, value in dict(in_channels=in_channels, channels=channels, out_channels=out_channels).items():
            check_size(f'CNNImageDecoder.{name}', value)
        steps = int(math.log2(stride)) if stride > 1 else 0
        if not 1 <= steps <= 10 or 2**steps != stride:
            raise UsageError(f'CNNImageDecoder doubles the resolution, so stride is a power of two, not {stride!r}')
        self.batch_norm = check_one_of('CNNImageDecoder: batch_norm', batch_norm, (*BATCH_NORMS, True, False))
        self.blocks = nn.ModuleList(
            _ConvNorm(in_channels if i == 0 else channels, channels, bool(batch_norm)) for i in range(steps)
        )
        self.to_pixels = nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor, views: int = 1) -> Tensor:
        """Restores images.

        Args:
            x: (V*B, C, h, w) patch tokens as maps, view by view.
            views: V.

        Returns:
            (V*B, out_channels, h*stride, w*stride), in normalized pixel values.
        """
        # In channels-last format upsampling takes a fifth of the time, half-precision convolutions two thirds.
        x = x.contiguous(memory_format=torch.channels_last)
        if self.batch_norm == 'all':
            views = 1
        blocks: Iterable[Any] = self.blocks
        first, *others = blocks
        x, norm = first.conv(x), first.norm
        for block in others:
            x, norm = normed_conv(x, norm, block.conv, views, double=True), block.norm
        # The 1×1 convolution commutes with interpolation (whose weights add up to one), so it comes before the last
        # upsampling: a quarter of the pixels to convolve, and 3 channels instead of all to interpolate.
        return doubled(normed_conv(x, norm, self.to_pixels, views, double=False))
