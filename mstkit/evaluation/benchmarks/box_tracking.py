"""Follows the box of a video's first frame by the similarity of patch tokens, without training.

Of each frame the network sees a square around the last box, enlarged, so that a small target has several patches too.
In the first frame each patch is labeled with the share of it that the box covers. The labels are propagated as in
:mod:`mstkit.evaluation.benchmarks.propagation`, and the new box is the one with the largest overlap with them: its
place is free within the square, its width and height change by a few percent at most.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from mstkit.errors import UsageError
from mstkit.evaluation.benchmarks.propagation import DINO, Propagation, follow
from mstkit.evaluation.benchmarks.tracking_files import TrackedVideo
from mstkit.evaluation.benchmarks.video_frames import patch_map, read_frames
from mstkit.evaluation.benchmarks.whole_image_features import patch_stride
from mstkit.utils.checks import check_count, check_number, check_size

_CHANGES = (1 / 1.05, 1.0, 1.05)  # of width and height from one frame to the next
# So much overlap a change by a factor of e costs: without it boxes waver, and drift into what is beside them.
_COST = 0.1
_FINE = 4  # places and sizes of a box are compared at so many cells per patch and axis
_SMALLEST = 8  # px of a frame, the side of the square
_LARGEST = 4  # in sides of the frame, so that a box cannot grow without end


class Tracking(NamedTuple):
    """The settings.

    Attributes:
        region: side of the square, in sides of a square with the area of the box.
        size: px to which the square is resized for the network; None for twice the network's image size.
        frames: number of previous frames whose labels are used, besides the first one. None of them by default: what
            was found may be wrong, and mistakes would add up.
        neighbors: number of most similar patches, anywhere in those squares, whose labels are averaged.
        temperature: of the weights, exp(cosine / temperature).
    """

    region: float = 3.0
    size: int | None = None
    frames: int = 0
    neighbors: int = DINO.neighbors
    temperature: float = DINO.temperature

    def check(self, where: str) -> None:
        """Raises UsageError for a setting out of range; ``where`` is the beginning of their names."""
        check_number(f'{where}region', self.region, 1, 20)
        if self.size is not None:
            check_size(f'{where}size', self.size)
        check_count(f'{where}frames', self.frames, 0, 1000)
        check_count(f'{where}neighbors', self.neighbors, 1, 1000)
        check_number(f'{where}temperature', self.temperature, 1e-6, 1e6)


DEFAULTS = Tracking()


class FollowedBox(NamedTuple):
    """What was found.

    Attributes:
        boxes: (T, 4) float64: left, top, width and height in pixels; the first one was given.
        seconds: (T,) that each frame took.
    """

    boxes: np.ndarray
    seconds: np.ndarray


class _Square(NamedTuple):
    """A part of a frame, in whole pixels; it may reach beyond the frame."""

    left: int
    top: int
    side: int


def follow_box(
    network: Any, video: TrackedVideo, settings: Tracking = DEFAULTS, device: torch.device | str = 'cpu'
) -> FollowedBox:
    """Follows the box of the first frame through the others.

    Args:
        network: computes tokens of normalized images; has ``name``, ``image_size``, ``mean`` and ``std``.
        video: with the box of at least its first frame.
        settings: see :class:`Tracking`.
        device: the device of the network.

    Raises:
        UsageError: a square is smaller than a patch, a frame cannot be read or has another size, or tokens are not
            finite.
    """
    size = region_size(network, settings, device)
    boxes, squares = [video.boxes[0]], []

    def maps() -> Iterator[Tensor]:
        for pixels in read_frames(video.frames, video.name):
            squares.append(_around(boxes[-1], settings.region))
            tokens = patch_map(network, _cut(pixels, squares[-1], size, network.mean), device)
            if not bool(tokens.isfinite().all()):
                raise UsageError(f'the patch tokens of {network.name} are not finite.')
            yield tokens

    # The square of a frame depends on the box before it, so a frame is read when that one is found.
    frames = maps()
    times = [time.perf_counter()]
    first = next(frames)
    labels = _share_of_patches(video.boxes[0], squares[0], first.shape[0]).to(first.device, torch.float32)
    times.append(time.perf_counter())
    everywhere = Propagation(settings.frames, len(first), settings.neighbors, settings.temperature)
    for found in follow(itertools.chain([first], frames), labels[..., None], everywhere):
        boxes.append(_box_of(found[..., 0].cpu(), squares[-1], boxes[-1], video.size))
        times.append(time.perf_counter())
    return FollowedBox(np.stack(boxes), np.diff(times))


def still_box(video: TrackedVideo) -> np.ndarray:
    """The box of the first frame in all frames, (T, 4): what is reached without looking at them."""
    return video.boxes[:1].repeat(len(video.frames), axis=0)


def region_size(network: Any, settings: Tracking, device: torch.device | str = 'cpu') -> int:
    """Pixels of the square as the network sees it: whole patches.

    Raises:
        UsageError: it is smaller than a patch.
    """
    stride = patch_stride(network, device)
    size = 2 * network.image_size if settings.size is None else settings.size
    if size < stride:
        raise UsageError(f'a region of {size} px is smaller than a patch of {network.name}: give {stride} px or more.')
    return size // stride * stride


def _around(box: np.ndarray, region: float) -> _Square:
    """The square with the same middle as a box."""
    left, top, width, height = box.tolist()
    side = max(_SMALLEST, round(region * (width * height) ** 0.5))
    return _Square(round(left + (width - side) / 2), round(top + (height - side) / 2), side)


def _cut(pixels: np.ndarray, square: _Square, size: int, fill: tuple[float, ...]) -> np.ndarray:
    """A square of a frame, (size, size, 3) uint8; the network's mean color where the frame ends."""
    color = tuple(min(max(round(value), 0), 255) for value in fill)
    canvas = Image.new('RGB', (square.side, square.side), color)
    canvas.paste(Image.fromarray(pixels), (-square.left, -square.top))
    return np.array(canvas.resize((size, size), Image.Resampling.BILINEAR))


def _share_of_patches(box: np.ndarray, square: _Square, grid: int) -> Tensor:
    """How much of each patch of a square a box covers, (grid, grid) float64."""
    left, top, width, height = box.tolist()
    scale = grid / square.side
    across, down = (
        _share_of_cells(torch.tensor([(low - start) * scale]), torch.tensor([(low + side - start) * scale]), grid)
        for low, side, start in ((left, width, square.left), (top, height, square.top))
    )
    return down.T * across


def _share_of_cells(low: Tensor, high: Tensor, cells: int) -> Tensor:
    """How much of each of the cells [0, 1], [1, 2] .. the intervals from low to high (N,) cover: (N, cells)."""
    edge = torch.arange(cells, dtype=torch.float64)
    return (torch.minimum(high[:, None], edge + 1) - torch.maximum(low[:, None], edge)).clamp(min=0)


def _box_of(labels: Tensor, square: _Square, last: np.ndarray, frame: tuple[int, int]) -> np.ndarray:
    """The box with the largest overlap with labels, less what another width and height cost.

    The overlap is that of two soft sets: the sum of the labels in the box, by the sum of all labels and the area of the
    box less that. The middle of the box is that of the last one or whole cells from it, in the square and in the frame.
    Where no label is left, the last box stays.

    Args:
        labels: of the patches of the square, (g, g), 0 to 1.
        square: the part of the frame.
        last: the box of the frame before.
        frame: its (width, height) in pixels.
    """
    side = len(labels) * _FINE
    fine = functional.interpolate(labels[None, None].double(), (side, side), mode='bilinear', align_corners=False)[0, 0]
    scale = square.side / side  # px of a cell
    steps = torch.arange(-side, side + 1, dtype=torch.float64)
    middle, start = last[:2] + last[2:] / 2, square[:2]
    middles = [(at - begin) / scale + steps for at, begin in zip(middle.tolist(), start, strict=True)]
    across, down = (
        at[(at >= 0) & (at <= side) & (begin + at * scale >= 0) & (begin + at * scale <= end)]
        for at, begin, end in zip(middles, start, frame, strict=True)
    )
    best, found = 0.0, last
    if not len(across) or not len(down):
        return last
    for changes in itertools.product(_CHANGES, repeat=2):
        width, height = (last[2:] * changes).tolist()
        if max(width, height) > _LARGEST * max(frame) or min(width, height) < 1:
            continue
        half_width, half_height = width / scale / 2, height / scale / 2
        rows = _share_of_cells(down - half_height, down + half_height, side)
        columns = _share_of_cells(across - half_width, across + half_width, side)
        within = rows @ fine @ columns.T
        overlap = within / (fine.sum() + 4 * half_width * half_height - within)
        worth = float(overlap.max()) - _COST * sum(abs(math.log(change)) for change in changes)
        if worth > best:
            best = worth
            row, column = divmod(int(overlap.argmax()), len(across))
            x, y = square.left + float(across[column]) * scale, square.top + float(down[row]) * scale
            found = np.array([x - width / 2, y - height / 2, width, height])
    return found
