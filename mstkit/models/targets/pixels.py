"""The pixels of each patch, the target of MAE and SimMIM."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from mstkit.models.targets.target import Target
from mstkit.registry import MODELS
from mstkit.structures import TokenOutput

CHANNELS = 3
EPS = 1e-6  # MAE's


@MODELS.register_module()
class Pixels(Target):
    """The pixel values of each patch, from the normalized images.

    Args:
        patch_size: see :class:`Target`.
        norm: standardize each patch by its own mean and standard deviation, ``(x - mean) / sqrt(var + 1e-6)`` over all
            D values of the patch with the unbiased variance (MAE, He et al., CVPR 2022, section 3 "Reconstruction
            target").
        order: order of the D = 3 * patch_size² values: 'row column channel', as in MAE's code, or 'channel row
            column', as in SimMIM's ``PixelShuffle``. Matters only for decoder weights that are loaded from elsewhere.
    """

    shows_images = True

    def __init__(
        self,
        patch_size: int,
        norm: bool = False,
        order: Literal['row column channel', 'channel row column'] = 'row column channel',
    ) -> None:
        super().__init__(patch_size)
        self.norm, self.order = norm, order
        self.shown_with = 'true means' if norm else ''
        self.dims = CHANNELS * self.patch_size**2

    def forward(self, images: Tensor, grid: tuple[int, int], teacher: TokenOutput | None = None) -> Tensor:
        """See :meth:`Target.forward`."""
        values = self._patches(images)
        if not self.norm:
            return values
        mean, deviation = _statistics(values)
        return (values - mean) / deviation

    def to_images(self, predicted: Tensor, images: Tensor, grid: tuple[int, int]) -> Tensor:
        """See :meth:`Target.to_images`; with ``norm``, rescaled to the mean and deviation of the image's patch.

        These two are the true ones, which nothing predicts: a prediction of zeros already has the colors of the image.
        """
        values = predicted.float()
        if self.norm:
            mean, deviation = _statistics(self._patches(images))
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
        return f'patch_size={self.patch_size}, norm={self.norm}'


def _statistics(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each patch: (B, L, D) -> (B, L, 1) both."""
    variance, mean = torch.var_mean(values, dim=-1, keepdim=True)
    return mean, (variance + EPS).sqrt()
