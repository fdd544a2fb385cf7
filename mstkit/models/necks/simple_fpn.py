"""The simple feature pyramid of ViTDet: several scales from the last feature map of a plain ViT."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from mmengine.model import BaseModule
from mmpretrain.models.utils import build_norm_layer
from torch import Tensor, nn
from torch.nn import functional as F

from mstkit.errors import UsageError
from mstkit.registry import MODELS
from mstkit.utils.checks import check_count, check_size

SCALE_FACTORS = (4.0, 2.0, 1.0, 0.5, 0.25)


@MODELS.register_module()
class SimpleFPN(BaseModule):
    """Makes every pyramid level independently from the last map of a plain backbone (ViTDet, Li et al. 2022, sec. 3).

    A level scales the map: by 4 with two 2×2 deconvolutions of stride 2, layer normalization and GELU between them; by
    2 with one; by 1 not at all; by 0.5 and 0.25 with max pooling of stride 2 and 4. Then come a 1×1 and a 3×3
    convolution, each with layer normalization over the channels (the paper's appendix). Deconvolutions halve the
    number of channels, as in the authors' code; the paper does not say. Further outputs, for larger anchors, take
    every second pixel of the previous one.

    Where a size is odd, pooling and subsampling round it up: all of the image stays covered, at the level's stride.

    Args:
        in_channels: C of the backbone's map.
        out_channels: channels of every output.
        scale_factors: size of each level relative to the backbone's map, the largest first. With 16-px patches the
            default gives strides 4, 8, 16, 32; with 8-px patches (2, 1, 0.5, 0.25) gives the same.
        num_outs: total number of outputs.

    Raises:
        UsageError: a size below 1, channels that the deconvolutions cannot halve, an unknown scale, scales not in
            descending order, or fewer outputs than scales.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 256,
        scale_factors: Sequence[float] = (4.0, 2.0, 1.0, 0.5),
        num_outs: int = 5,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        check_size('SimpleFPN.in_channels', in_channels)
        check_size('SimpleFPN.out_channels', out_channels)
        check_count('SimpleFPN.num_outs', num_outs, 1, 16)
        if not isinstance(scale_factors, Sequence) or not scale_factors or set(scale_factors) - set(SCALE_FACTORS):
            raise UsageError(f'SimpleFPN: scale_factors are some of {SCALE_FACTORS}, not {scale_factors!r}')
        if any(smaller >= larger for larger, smaller in pairwise(scale_factors)):
            raise UsageError(f'SimpleFPN: scale_factors go from the largest to the smallest, unlike {scale_factors!r}')
        if num_outs < len(scale_factors):
            raise UsageError(f'SimpleFPN: num_outs={num_outs} is less than the {len(scale_factors)} scale_factors')
        if in_channels % max(1, int(scale_factors[0])):
            raise UsageError(
                f'SimpleFPN: in_channels={in_channels} cannot be halved by every deconvolution up to the scale '
                f'{scale_factors[0]}; take a multiple of {int(scale_factors[0])}'
            )
        self.in_channels = in_channels
        self.num_outs = num_outs
        self.levels = nn.ModuleList(_level(in_channels, out_channels, factor) for factor in scale_factors)

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Builds the pyramid.

        Args:
            inputs: the backbone's maps; the last one, (B, C, h, w), is used.

        Returns:
            ``num_outs`` maps (B, out_channels, h*factor, w*factor), the largest first.

        Raises:
            UsageError: the last input is not a map of ``in_channels`` channels.
        """
        x = inputs[-1]
        if isinstance(inputs, Tensor) or x.dim() != 4 or x.shape[1] != self.in_channels:
            given = f'one tensor {tuple(inputs.shape)}' if isinstance(inputs, Tensor) else f'one {tuple(x.shape)} last'
            raise UsageError(
                f'SimpleFPN takes a tuple of maps (B, {self.in_channels}, h, w), not {given}: give the backbone '
                "out_type='featmap', and in_channels its width"
            )
        outputs = [level(x) for level in self.levels]
        while len(outputs) < self.num_outs:
            outputs.append(F.max_pool2d(outputs[-1], kernel_size=1, stride=2))
        return tuple(outputs)


def _level(in_channels: int, out_channels: int, factor: float) -> nn.Sequential:
    """One level of the pyramid: scaling, then the two convolutions."""
    layers: list[nn.Module] = []
    channels = in_channels
    if factor < 1:
        stride = round(1 / factor)
        layers.append(nn.MaxPool2d(stride, stride, ceil_mode=True))
    while factor > 1:
        layers.append(nn.ConvTranspose2d(channels, channels // 2, kernel_size=2, stride=2))
        channels, factor = channels // 2, factor / 2
        if factor > 1:
            layers += [_layer_norm(channels), nn.GELU()]
    layers += [nn.Conv2d(channels, out_channels, kernel_size=1, bias=False), _layer_norm(out_channels)]
    layers += [nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False), _layer_norm(out_channels)]
    return nn.Sequential(*layers)


def _layer_norm(channels: int) -> nn.Module:
    """Layer normalization over the channels of each pixel."""
    return build_norm_layer(dict(type='LN2d', eps=1e-6), channels)
