"""Features of whole images with their own aspect ratio, at one or several scales."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from mstkit.datasets.image_reader import UnreadableImage, read_image
from mstkit.errors import UsageError
from mstkit.utils.progress_bar import track

Box = tuple[float, float, float, float]
SCALES = (1.0, 2**-0.5, 0.5)  # of DINO's multi-scale features (arXiv 2104.14294)


class WholeImages(Dataset):
    """Images that keep their aspect ratio, downscaled to a maximum size.

    Args:
        paths: the files.
        longest: px, maximum of the longer side; smaller images are not enlarged.
        boxes: (left, top, right, bottom) in pixels to crop first, None for the whole image.

    Raises:
        UsageError: when an image cannot be read, or lies outside of its box.
    """

    def __init__(self, paths: Sequence[str | os.PathLike[str]], longest: int, boxes: Sequence[Box | None] = ()) -> None:
        self.paths, self.longest = [os.fspath(path) for path in paths], longest
        self.boxes = list(boxes) or [None] * len(self.paths)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        """The image, (3, H, W) uint8."""
        try:
            image = Image.fromarray(read_image(self.paths[index]))
        except UnreadableImage as error:
            raise UsageError(f'{error}; this evaluation needs every image, so copy it again.') from error
        box = self.boxes[index]
        if box is not None:
            left, top = (max(0, round(side)) for side in box[:2])
            right, bottom = (min(most, round(side)) for most, side in zip(image.size, box[2:], strict=True))
            if left >= right or top >= bottom:
                raise UsageError(
                    f'{self.paths[index]} is {image.width}x{image.height} px and its box {box}: the ground truth is '
                    'of other images.'
                )
            image = image.crop((left, top, right, bottom))
        if max(image.size) > self.longest:
            image.thumbnail((self.longest, self.longest), Image.Resampling.LANCZOS)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def patch_stride(network: Any, device: torch.device | str = 'cpu') -> int:
    """The distance in pixels between neighboring patch tokens of a network."""
    side = network.image_size
    with torch.no_grad():
        tokens = network(torch.zeros(1, 3, side, side, device=device))
    return side // tokens.grid[0]


def cut_to_stride(images: Tensor, stride: int) -> Tensor:
    """Crops images at the right and at the bottom to whole patches; images smaller than a patch are enlarged to it.

    Args:
        images: (B, 3, H, W).
        stride: px.
    """
    height, width = images.shape[-2:]
    if min(height, width) < stride:
        size = (max(height, stride), max(width, stride))
        images = functional.interpolate(images, size, mode='bilinear', align_corners=False)
        height, width = size
    return images[..., : height - height % stride, : width - width % stride]


def whole_image_features(
    encode: Callable[[Tensor], Tensor],
    dataset: WholeImages,
    mean: Sequence[float],
    std: Sequence[float],
    stride: int,
    scales: Sequence[float] = (1.0,),
    device: torch.device | str = 'cpu',
    num_workers: int = 0,
    description: str = 'features',
) -> Tensor:
    """Computes the features of images of any size, one at a time; with several scales, the mean of their features.

    Images are cropped to whole patches, as a patch embedding without padding does.

    Args:
        encode: maps normalized images (1, 3, H, W) of whole patches to features (1, D).
        dataset: the images.
        mean: normalization of the network, in 0..255.
        std: likewise.
        stride: px, see :func:`patch_stride`.
        scales: factors of the image's sides; the features are averaged over scales, then L2-normalized (DINO).
        device: the device of the network.
        num_workers: processes that read images.
        description: for the progress line.

    Returns:
        (M, D) float32 on the CPU, L2-normalized, in the order of the images.
    """
    loader = DataLoader(dataset, batch_size=1, num_workers=num_workers, generator=torch.Generator())
    center, spread = (torch.tensor(value, device=device).view(1, 3, 1, 1) for value in (mean, std))
    rows = []
    with torch.no_grad():
        for batch in track(loader, len(loader), description):
            images = (batch.to(device).float() - center) / spread
            summed: Tensor | float = 0.0
            for scale in scales:
                scaled = images
                if scale != 1.0:
                    scaled = functional.interpolate(images, scale_factor=scale, mode='bilinear', align_corners=False)
                summed = summed + encode(cut_to_stride(scaled, stride)).float()
            rows.append(functional.normalize(torch.as_tensor(summed), dim=1).cpu())
    return torch.cat(rows)
