"""Square crops around objects with keypoints, and the way from places in a crop to pixels of the image."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mstkit.datasets.image_reader import UnreadableImage, read_image
from mstkit.datasets.keypoint_annotations import KeypointInstance
from mstkit.errors import UsageError
from mstkit.utils.progress_bar import track

PADDED = 1.25  # side of a crop, in longer sides of the box
_OUTSIDE = (124, 116, 104)  # color of what is not in the image, ImageNet's mean


def squares(instances: Sequence[KeypointInstance]) -> np.ndarray:
    """(M, 3) float64: left, top and side of the crops in pixels, around the middle of the boxes."""
    boxes = np.array([one.box for one in instances], np.float64).reshape(-1, 4)
    sides = PADDED * boxes[:, 2:].max(axis=1)
    corners = boxes[:, :2] + boxes[:, 2:] / 2 - sides[:, None] / 2
    return np.concatenate([corners, sides[:, None]], axis=1)


def to_crops(keypoints: np.ndarray, crops: np.ndarray) -> np.ndarray:
    """Pixels of the image (M, K, 2) to places in sides of the crops."""
    return (keypoints - crops[:, None, :2]) / crops[:, None, 2:]


def to_pixels(places: np.ndarray, crops: np.ndarray) -> np.ndarray:
    """Places in sides of the crops (M, K, 2) to pixels of the image."""
    return crops[:, None, :2] + places * crops[:, None, 2:]


def read_crops(instances: Sequence[KeypointInstance], size: int, what: str = 'crops') -> Tensor:
    """Reads the crops of objects, resized bicubically.

    Args:
        instances: the objects.
        size: side in pixels.
        what: for the progress bar.

    Returns:
        (M, 3, size, size) uint8, RGB.

    Raises:
        UsageError: an image cannot be read, or is of another size than its annotations.
    """
    found = torch.empty(len(instances), 3, size, size, dtype=torch.uint8)
    last = None
    for row, (one, square) in enumerate(track(list(zip(instances, squares(instances), strict=True)), len(found), what)):
        if one.image != last:
            last = one.image
            try:
                image = Image.fromarray(read_image(one.image))
            except UnreadableImage as error:
                raise UsageError(f'{error}: copy it again, or remove it and its annotations.') from error
            if image.size != one.size:
                raise UsageError(
                    f'{one.image} is {image.width}x{image.height} px as it is read, and {one.size[0]}x{one.size[1]} px '
                    'in its annotations: keypoints would lie elsewhere. Give the image that was annotated.'
                )
        found[row] = torch.from_numpy(crop_square(image, square, size)).movedim(2, 0)
    return found


def crop_square(image: Image.Image, square: Sequence[float] | np.ndarray, size: int) -> np.ndarray:
    """A square of an image, resized, (size, size, 3) uint8; what is not in the image is gray.

    Args:
        image: RGB.
        square: left, top and side in pixels, which need not be whole.
        size: side in pixels of the result.
    """
    left, top, side = (float(value) for value in square)
    first_x, first_y = math.floor(left), math.floor(top)
    canvas = Image.new('RGB', (math.ceil(left + side) - first_x, math.ceil(top + side) - first_y), _OUTSIDE)
    canvas.paste(image, (-first_x, -first_y))
    left, top = left - first_x, top - first_y
    box = left, top, min(left + side, canvas.width), min(top + side, canvas.height)  # but for rounding
    return np.array(canvas.resize((size, size), Image.Resampling.BICUBIC, box))
