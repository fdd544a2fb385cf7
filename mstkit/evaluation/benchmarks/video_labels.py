"""Label maps of all frames of a video, propagated from the first one by a network's patch tokens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mstkit.errors import UsageError
from mstkit.evaluation.benchmarks.davis import Video, read_annotation
from mstkit.evaluation.benchmarks.propagation import DINO, Propagation, follow, hard_labels, one_hot
from mstkit.evaluation.benchmarks.video_frames import patch_map, read_frames
from mstkit.evaluation.benchmarks.whole_image_features import patch_stride
from mstkit.utils.progress_bar import track

_UNIT = 64  # px; the longer side of a frame is rounded to a multiple of it, as in DINO


def segment_video(
    network: Any,
    video: Video,
    settings: Propagation = DINO,
    shorter: int = 480,
    device: torch.device | str = 'cpu',
) -> list[np.ndarray]:
    """Segments the objects of a video's first frame in all frames.

    Args:
        network: computes tokens of normalized images whose sides are whole patches; has ``name``, ``image_size``,
            ``mean`` and ``std``.
        video: with the annotation of at least its first frame.
        settings: of the protocol.
        shorter: px, to which the shorter side of frames is resized for the network.
        device: the device of the network.

    Returns:
        A label map for each frame, (H, W) uint8, in the size of the annotation; the first is the annotation.

    Raises:
        UsageError: the frames are too small for the network, or one cannot be read or has another size.
    """
    first = read_annotation(video.annotations[0]).labels
    height, width = first.shape
    stride = patch_stride(network, device)
    if shorter < stride:
        raise UsageError(
            f'frames of {shorter} px are smaller than a patch of {network.name}: give {stride} px or more.'
        )
    size = frame_size(width, height, shorter, stride)
    grid = (size[0] // stride, size[1] // stride)
    numbers = np.concatenate([[0], np.unique(first[first > 0])])
    small = np.array(Image.fromarray(first).resize(grid[::-1], Image.Resampling.NEAREST))
    begin = one_hot(torch.from_numpy(np.searchsorted(numbers, small)).to(device), len(numbers))
    maps = track(_patch_maps(network, video, size, device), len(video.frames), f'{video.name}, {network.name}')
    result = [first]
    for soft in follow(maps, begin, settings):
        labels = numbers[hard_labels(soft, size).cpu().numpy()].astype(np.uint8)
        result.append(np.array(Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST)))
    return result


def frame_size(width: int, height: int, shorter: int, stride: int) -> tuple[int, int]:
    """The size to which a frame is resized for the network: whole patches, the longer side a multiple of 64 px (DINO).

    Args:
        width, height: of the frame, px.
        shorter: px, the shorter side.
        stride: px of a patch; if it does not divide 64, the longer side is a multiple of ``stride`` instead.

    Returns:
        (H, W); both sides are rounded down, the longer side not below the shorter one.
    """
    unit = _UNIT if _UNIT % stride == 0 else stride
    short = shorter // stride * stride
    longer = max(short, max(width, height) * shorter // min(width, height) // unit * unit)
    return (short, longer) if width >= height else (longer, short)


def _patch_maps(network: Any, video: Video, size: tuple[int, int], device: torch.device | str) -> Iterator[Tensor]:
    """Patch tokens of each frame, (h, w, C)."""
    for pixels in read_frames(video.frames, video.name):
        resized = Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BILINEAR)
        yield patch_map(network, np.array(resized), device)
