"""Histograms of oriented gradients (HOG), the target of MaskFeat."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from mstkit.errors import UsageError
from mstkit.models.targets.pixels import CHANNELS
from mstkit.models.targets.target import Target
from mstkit.registry import MODELS
from mstkit.structures import TokenOutput
from mstkit.utils.checks import check_count, check_size

SOBEL = ((1.0, 0.0, -1.0), (2.0, 0.0, -2.0), (1.0, 0.0, -1.0))


@MODELS.register_module()
class HOG(Target):
    """The histograms of oriented gradients of the cells of a patch (MaskFeat, Wei et al., CVPR 2022, section 3.1).

    For each channel separately, the Sobel gradient of every pixel (borders reflected) votes with its magnitude for one
    of ``bins`` equal ranges of unsigned orientation in [0, pi). The votes of a cell form one histogram, which is
    L2-normalized; a cell without any gradient has zeros. Because of the L2 normalization, the target does not depend on
    the normalization of the images.

    As in MaskFeat's code, and unlike Dalal and Triggs (CVPR 2005), cells are normalized one by one instead of in
    overlapping blocks, and votes are weighted by a Gaussian.

    The D = 3 * bins * (patch_size / cell_size)² values of a patch are ordered by channel, then bin, then row and column
    of the cell, as in MaskFeat's code.

    Args:
        patch_size: see :class:`Target`.
        bins: number of orientation ranges.
        cell_size: side of a cell in pixels, a divisor of ``patch_size``; None for one cell per patch.
        gaussian_window: side in pixels of the Gaussian window (std: half a side) that is tiled over the image from its
            upper left corner and weights the votes; 0 for equal weights.

    Raises:
        UsageError: a ``cell_size`` that does not divide ``patch_size``.
    """

    filters: Tensor
    window: Tensor

    def __init__(self, patch_size: int, bins: int = 9, cell_size: int | None = 8, gaussian_window: int = 16) -> None:
        super().__init__(patch_size)
        self.bins = check_count('HOG.bins', bins, 2, 180)
        self.cell_size = self.patch_size if cell_size is None else check_size('HOG.cell_size', cell_size, high=1024)
        self.gaussian_window = check_count('HOG.gaussian_window', gaussian_window, 0, 1024)
        if self.patch_size % self.cell_size:
            raise UsageError(
                f'HOG.cell_size is {cell_size}, which does not divide patch_size {patch_size}: give a '
                f'cell_size that divides {patch_size}'
            )
        self.cells = self.patch_size // self.cell_size  # along a side of a patch
        self.dims = CHANNELS * self.bins * self.cells**2
        across = torch.tensor(SOBEL)
        # One filter for each direction of each channel: (2 * 3, 1, 3, 3).
        self.register_buffer('filters', torch.stack([across, across.T])[:, None].repeat(CHANNELS, 1, 1, 1), False)
        self.register_buffer('window', _gaussian(self.gaussian_window), False)

    def forward(self, images: Tensor, grid: tuple[int, int], teacher: TokenOutput | None = None) -> Tensor:
        """See :meth:`Target.forward`."""
        histograms = F.normalize(self._votes(images), dim=2).flatten(1, 2)  # (B, 3 * bins, rows, columns of cells)
        side = self.cells
        parts = histograms.unflatten(2, (-1, side)).unflatten(4, (-1, side))  # (B, 3 * bins, h, n, w, n)
        return parts.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)  # (B, L, D)

    def to_images(self, predicted: Tensor, images: Tensor, grid: tuple[int, int]) -> Tensor:
        """See :meth:`Target.to_images`; a cell is drawn as one line per bin, along the edge, as bright as the bin.

        Where lines cross, the brightest one is shown. Each channel is scaled to the range between its minimum and
        maximum in the image.
        """
        (height, width), n, size = grid, self.cells, self.cell_size
        # (B, L, D) -> (B, h, w, 3, bins, n, n)
        values = predicted.float().clamp(0, 1).view(-1, height, width, CHANNELS, self.bins, n, n)
        cells = values.permute(0, 3, 1, 5, 2, 6, 4)  # (B, 3, h, n, w, n, bins)
        drawn = torch.zeros((*cells.shape[:4], size, *cells.shape[4:6], size), device=values.device)
        for k, stroke in enumerate(_strokes(self.bins, size).to(values)):
            drawn = torch.maximum(drawn, cells[:, :, :, :, None, :, :, None, k] * stroke[:, None, None])
        drawn = drawn.reshape(len(values), CHANNELS, height * n * size, width * n * size)
        low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
        return low + (high - low) * drawn

    def _votes(self, images: Tensor) -> Tensor:
        """Votes of each cell: (B, 3, H, W) to (B, 3, bins, H / cell_size, W / cell_size), always in float32."""
        with torch.autocast(images.device.type, enabled=False):
            padded = F.pad(images.float(), (1, 1, 1, 1), mode='reflect')
            gradients = F.conv2d(padded, self.filters, groups=CHANNELS).unflatten(1, (CHANNELS, 2))
            across, down = gradients.unbind(dim=2)  # (B, 3, H, W) both
            ranges = (torch.atan2(across, down) / math.pi * self.bins).floor() % self.bins
            votes = torch.hypot(across, down)
            if self.gaussian_window:
                height, width = images.shape[2:]
                times = (math.ceil(height / self.gaussian_window), math.ceil(width / self.gaussian_window))
                votes = votes * self.window.repeat(times)[:height, :width]
            # A sum per bin instead of one scatter-add, which is not deterministic on a GPU.
            sums = [
                F.avg_pool2d(votes.where(ranges == k, 0.0), self.cell_size, divisor_override=1)
                for k in range(self.bins)
            ]
        return torch.stack(sums, dim=2)

    def extra_repr(self) -> str:
        return f'patch_size={self.patch_size}, bins={self.bins}, cell_size={self.cell_size}'


def _gaussian(side: int) -> Tensor:
    """A Gaussian window (side, side) of sum 1."""
    if not side:
        return torch.ones(0, 0)
    offsets = (torch.arange(side) - (side - 1) / 2) / (side // 2 or 1)
    line = torch.exp(-0.5 * offsets**2)
    square = line[:, None] * line
    return square / square.sum()


def _strokes(bins: int, size: int) -> Tensor:
    """For each bin a line through the center of a cell, perpendicular to the bin's gradient: (bins, size, size)."""
    angles = (torch.arange(bins) + 0.5) * (math.pi / bins)
    offsets = torch.arange(size) - (size - 1) / 2
    # The gradient of a bin points to (x, y) = (sin, cos) of its angle.
    across, down = torch.sin(angles)[:, None, None] * offsets, torch.cos(angles)[:, None, None] * offsets[:, None]
    return (1 - (across + down).abs()).clamp(min=0)
