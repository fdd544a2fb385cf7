"""The preprocessing of a network's images: what it was measured with, from a file to a normalized tensor."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mstkit.registry import TRANSFORMS


class ImageTransform:
    """Reads an image, resizes its shorter side, crops the center and normalizes, as all evaluations do.

    Args:
        resize: shorter side in pixels after resizing (antialiased bicubic).
        crop: side of the central square in pixels.
        mean: per channel, RGB, on the scale 0..255.
        std: likewise.
    """

    def __init__(self, resize: int, crop: int, mean: Sequence[float], std: Sequence[float]) -> None:
        self.resize, self.crop = resize, crop
        self.mean, self.std = tuple(mean), tuple(std)
        # By name: data sets and their transforms are built on top of networks, not below them.
        steps = (dict(type='mstkit.LoadRGB'), dict(type='mstkit.CenterView', resize=resize, crop=crop))
        self._steps: list[Any] = [TRANSFORMS.build(step) for step in steps]

    def __call__(self, image: str | os.PathLike[str] | Image.Image | np.ndarray) -> Tensor:
        """Prepares one image; ``torch.stack`` makes a batch of several.

        Args:
            image: a file; an image of Pillow's, of any mode; or an array (H, W, 3) or (H, W) of uint8, RGB or gray.

        Returns:
            (3, crop, crop) float32, normalized.

        Raises:
            UnreadableImage: the file is missing or no image.
            UsageError: an array of another kind.
        """
        is_file = isinstance(image, str | os.PathLike)
        results: dict[str, Any] = {'img_path': os.fspath(image)} if is_file else {'img': image}  # type: ignore[arg-type]
        for step in self._steps:
            results = step(results)
        return self.normalize(torch.from_numpy(np.ascontiguousarray(results['img'])).permute(2, 0, 1))

    def normalize(self, pixels: Tensor) -> Tensor:
        """Normalizes pixels of the scale 0..255 and any size, (..., 3, H, W), to float32."""
        mean, std = (torch.tensor(values, device=pixels.device).view(-1, 1, 1) for values in (self.mean, self.std))
        return (pixels.float() - mean) / std

    def __repr__(self) -> str:
        return f'{type(self).__name__}(resize={self.resize}, crop={self.crop}, mean={self.mean}, std={self.std})'
