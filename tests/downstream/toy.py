"""Tiny data sets in the forms that detection and segmentation read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZE = (40, 30)  # width, height


def write_image(path: Path, size: tuple[int, int] = SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def write_labels(path: Path, labels: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(labels)).save(path)
    return path


def rle(mask: np.ndarray) -> dict[str, Any]:
    """COCO's uncompressed run lengths: column by column, beginning with the zeros."""
    runs, value, length = [], 0, 0
    for pixel in mask.T.reshape(-1).tolist():
        if pixel != value:
            runs.append(length)
            value, length = pixel, 0
        length += 1
    return dict(size=list(mask.shape), counts=[*runs, length])


def crowd_mask() -> np.ndarray:
    mask = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    mask[5:10, 20:30] = 1
    return mask


def coco_content() -> dict[str, Any]:
    """Three images; a polygon of two parts, a crowd as run lengths, a box of no width; one image without anything.

    The ids have gaps and the categories are not listed in their order.
    """
    images = [dict(id=i, file_name=f'sub/{i}.png', width=SIZE[0], height=SIZE[1]) for i in (7, 3, 9)]
    square, corner = [2, 3, 12, 3, 12, 13, 2, 13], [14, 3, 18, 3, 14, 7]

    def annotation(number: int, image: int, category: int, box: list[float], area: float, **more: Any) -> dict:
        return dict(id=number, image_id=image, category_id=category, bbox=box, area=area, iscrowd=0) | more

    return dict(
        images=images,
        categories=[dict(id=30, name='tree'), dict(id=4, name='cat'), dict(id=17, name='dog')],
        annotations=[
            annotation(11, 7, 17, [2, 3, 16, 10], 108, segmentation=[square, corner]),
            annotation(12, 7, 4, [20, 5, 10, 5], 50, segmentation=rle(crowd_mask()), iscrowd=1),
            annotation(13, 3, 30, [2, 3, 10, 10], 100, segmentation=[square]),
            annotation(14, 3, 30, [2, 3, 0, 10], 0, segmentation=[square]),
        ],
    )


def write_coco(root: Path, content: Any = None, name: str = 'instances.json') -> Path:
    """Images in ``root/images``, the annotation file in ``root/annotations``; returns the file."""
    content = coco_content() if content is None else content
    for image in coco_content()['images']:
        write_image(root / 'images' / image['file_name'])
    path = root / 'annotations' / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path
