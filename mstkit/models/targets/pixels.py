"""The pixels of each patch, the target of MAE and SimMIM."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from mstkit.models.targets.target import Target
from mstkit.registry import MODELS
from mstkit.structures import TokenOutput
from mstkit.utils.checks import check_one_of

CHANNELS = 3
EPS = {'patch': 1e-6, 'channel': 1e-5}  # MAE's and BootMAE's


@MODELS.register_module()
class Pixels(Target):
    """The pixel values of each patch, from the normalized images.

    Args:
        patch_size: see :class:`Target`.
        norm: standardize each patch by its own mean and standard deviation, ``(x - mean) / sqrt(var + 1e-6)`` over all
            D values of the patch with the unbiased variance (MAE, He et al., CVPR 2022, section 3 "Reconstruction
            target").
        norm_by: with ``norm``, what has a mean and a deviation of its own: 'patch', all values of a patch, as above, or
            'channel', each channel of a patch, ``(x - mean) / sqrt(var + 1e-5)`` with the biased variance (BootMAE's
            code).
        order: order of the D = 3 * patch_size² values: 'row column channel', as in MAE's code, or 'channel row
            column', as in SimMIM's ``PixelShuffle``. Matters only for decoder weights that are loaded from elsewhere.
    """

    shows_images = True

    def __init__(
        self,
        patch_size: int,
        norm: bool = False,
        order: Literal['row column channel', 'channel row column'] = 'row column channel',
        norm_by: Literal['patch', 'channel'] = 'patch',
    ) -> None:
        super().__init__(patch_size)
        self.norm_by = check_one_of('Pixels.norm_by', norm_by, tuple(EPS))
        self.norm, self.order = norm, order
        self.shown_with = 'true means' if norm else ''
        self.dims = CHANNELS * self.patch_size**2

    def forward(self, images: Tensor, grid: tuple[int, int], teacher: TokenOutput | None = None) -> Tensor:
        """See :meth:`Target.forward`."""
        values = self._patches(images)
        if not self.norm:
            return values
        mean, deviation = self._statistics(values)
        return (values - mean) / deviation

    def to_images(self, predicted: Tensor, images: Tensor, grid: tuple[int, int]) -> Tensor:
        """See :meth:`Target.to_images`; with ``norm``, rescaled to the mean and deviation of the image's patch.

        These two are the true ones, which nothing predicts: a prediction of zeros already has the colors of the image.
        """
        values = predicted.float()
        if self.norm:
            mean, deviation = self._statistics(self._patches(images))
            values = values * deviation + mean
        (height, width), side = grid, self.patch_size
        if self.order == 'row column channel':
            # (B, h, w, p, q, 3) -> (B, 3, h, p, w, q)
            parts = values.view(-1, height, width, side, side, CHANNELS).permute(0, 5, 1, 3, 2, 4)
        else:
            # (B, h, w, 3, p, q) -> (B, 3, h, p, w, q)
            parts = values.view(-1, height, width, CHANNELS, side, side).permute(0, 3, 1, 4, 2, 5)
        return parts.reshape(len(values), CHANNELS, height * side, width * side)

    def _patches(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, L, D), the D values in ``order``."""
        side = self.patch_size
        parts = images.float().unflatten(2, (-1, side)).unflatten(4, (-1, side))  # (B, 3, h, p, w, q)
        axes = (0, 2, 4, 3, 5, 1) if self.order == 'row column channel' else (0, 2, 4, 1, 3, 5)
        return parts.permute(axes).flatten(3).flatten(1, 2)  # (B, h, w, ...) -> (B, h, w, D) -> (B, L, D)

    def extra_repr(self) -> str:
        by = '' if self.norm_by == 'patch' else f', norm_by={self.norm_by!r}'
        return f'patch_size={self.patch_size}, norm={self.norm}{by}'

    def _statistics(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of patches (B, L, D): (B, L, 1) both, or by channel (B, L, D)."""
        eps = EPS[self.norm_by]
        if self.norm_by == 'patch':
            variance, mean = torch.var_mean(values, dim=-1, keepdim=True)
            return mean, (variance + eps).sqrt()
        last = self.order == 'row column channel'
        parts = values.unflatten(-1, (-1, CHANNELS) if last else (CHANNELS, -1))  # (B, L, p², 3) or (B, L, 3, p²)
        variance, mean = torch.var_mean(parts, dim=-2 if last else -1, correction=0, keepdim=True)
        return mean.expand_as(parts).flatten(-2), (variance + eps).sqrt().expand_as(parts).flatten(-2)
