"""The frames of a video, and their patch tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mstkit.datasets.image_reader import UnreadableImage, read_image
from mstkit.errors import UsageError


def read_frames(paths: Sequence[Path], name: str) -> Iterator[np.ndarray]:
    """Reads the frames of the video ``name``, one by one.

    Yields:
        (H, W, 3) uint8, RGB, all of one size.

    Raises:
        UsageError: one cannot be read, or has another size than the first.
    """
    shape = None
    for path in paths:
        try:
            pixels = read_image(path)
        except UnreadableImage as error:
            raise UsageError(f'{error}; unpack the sequence {name} again.') from error
        shape = shape or pixels.shape
        if pixels.shape != shape:
            raise UsageError(
                f'the frame {path} is {pixels.shape[1]}x{pixels.shape[0]} px and the first of {name} '
                f'{shape[1]}x{shape[0]}: unpack the sequence again.'
            )
        yield pixels


def patch_map(network: Any, pixels: np.ndarray, device: torch.device | str) -> Tensor:
    """Patch tokens of an image of whole patches.

    Args:
        network: computes tokens of normalized images; has ``mean`` and ``std``.
        pixels: (H, W, 3) uint8, RGB.
        device: the device of the network.

    Returns:
        (h, w, C).
    """
    mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (network.mean, network.std))
    images = torch.from_numpy(pixels).permute(2, 0, 1)[None].to(device).float()
    with torch.no_grad():
        tokens = network((images - mean) / std)
    return tokens.patch_tokens[0].unflatten(0, tokens.grid)
