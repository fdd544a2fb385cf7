"""Heatmaps of keypoints: Gaussians that a network learns to predict, and the points that are read out of them.

Coordinates are in pixels, in which the left upper corner of an image, or of a heatmap, is (0, 0), as in
:mod:`mstkit.datasets.keypoint_annotations`; the center of the first pixel is at (0.5, 0.5). So a point of a heatmap is
that of the image divided by the stride, and a mirrored image has the mirrored heatmap.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def resized_points(points: Tensor, old: Sequence[int], new: Sequence[int]) -> Tensor:
    """Points of a map of one size in a map of another one that shows the same.

    Args:
        points: (..., 2), x and y in pixels.
        old: height and width of the first map.
        new: those of the second.

    Returns:
        (..., 2), x and y in pixels of the second map.
    """
    factor = points.new_tensor([new[1] / old[1], new[0] / old[0]])
    return points * factor


def draw_heatmaps(points: Tensor, size: Sequence[int], sigma: float) -> Tensor:
    """A Gaussian of height 1 around each point. Source: SimpleBaseline, arXiv 1804.06208, section 2.

    Its center is the point itself and not the nearest pixel.

    Args:
        points: (..., 2), x and y in pixels of the heatmap.
        size: height and width of the heatmap.
        sigma: standard deviation, in pixels of the heatmap.

    Returns:
        (..., height, width) float32.
    """
    points = points.float()
    rows, columns = (torch.arange(length, device=points.device) + 0.5 for length in size)
    across = torch.exp(-((columns - points[..., 0, None]) ** 2) / (2 * sigma**2))
    down = torch.exp(-((rows - points[..., 1, None]) ** 2) / (2 * sigma**2))
    return down[..., :, None] * across[..., None, :]


def read_points(heatmaps: Tensor) -> tuple[Tensor, Tensor]:
    """The highest pixel of each heatmap, moved by a quarter of a pixel toward the higher of its neighbors.

    Source: SimpleBaseline, arXiv 1804.06208, and its code, which reads points in this way.

    Args:
        heatmaps: (..., h, w).

    Returns:
        (..., 2) float32, x and y in pixels of the heatmap; and (...) the values of the highest pixels.
    """
    height, width = heatmaps.shape[-2:]
    values, places = heatmaps.flatten(-2).max(-1)
    x, y = places % width, places // width

    def at(rows: Tensor, columns: Tensor) -> Tensor:
        """Values of pixels; those beyond the edge are the edge's."""
        index = rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)
        return heatmaps.flatten(-2).gather(-1, index[..., None])[..., 0]

    moved = torch.stack([at(y, x + 1) - at(y, x - 1), at(y + 1, x) - at(y - 1, x)], -1).sign()
    # At the edge one of the neighbors is the pixel itself, which says nothing about the other side.
    inside = torch.stack([(x > 0) & (x < width - 1), (y > 0) & (y < height - 1)], -1)
    return torch.stack([x, y], -1) + 0.5 + 0.25 * moved.float() * inside, values
