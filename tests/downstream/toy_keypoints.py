"""Small images with objects that have three keypoints, in COCO's layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

NAMES = ['top', 'left_foot', 'right_foot']
SIZE = (64, 48)  # width, height


def draw(number: int, count: int = 2) -> tuple[Image.Image, list[dict[str, Any]]]:
    """An image, and for each of its triangles the box and the keypoints: a white dot on top, two dark ones below."""
    generator = np.random.default_rng(number)
    image = Image.new('RGB', SIZE, tuple(int(value) for value in generator.integers(90, 150, 3)))
    pen = ImageDraw.Draw(image)
    objects = []
    for place in range(count):
        width, height = (float(value) for value in generator.uniform(14, 22, 2))
        x = 32.0 * place + float(generator.uniform(2, 8))
        y = float(generator.uniform(4, 20))
        points = [(x + width / 2, y + 3), (x + 3, y + height - 3), (x + width - 3, y + height - 3)]
        for (px, py), color in zip(points, ['white', 'black', 'black'], strict=True):
            pen.ellipse((px - 3, py - 3, px + 2, py + 2), fill=color)
        flat = [value for px, py in points for value in (px, py, 2)]
        objects.append(dict(bbox=[x, y, width, height], area=width * height, keypoints=flat, num_keypoints=3))
    return image, objects


def write_keypoints(root: Path, train: int = 6, val: int = 4, names: list[str] | None = None) -> Path:
    """A folder with ``annotations``, ``train2017`` and ``val2017``; returns it."""
    category = dict(id=5, name='figure', keypoints=names or NAMES, skeleton=[[1, 2], [1, 3]])
    for split, numbers in (('train', range(train)), ('val', range(1000, 1000 + val))):
        (root / f'{split}2017').mkdir(parents=True)
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number in numbers:
            image, objects = draw(number)
            image.save(root / f'{split}2017' / f'{number}.png')
            images.append(dict(id=number, file_name=f'{number}.png', width=SIZE[0], height=SIZE[1]))
            for one in objects:
                annotations.append(dict(one, id=len(annotations) + 1, image_id=number, category_id=5, iscrowd=0))
        write_annotations(root, split, images, annotations, category)
    return root


def write_annotations(root: Path, split: str, images: list, annotations: list, category: dict[str, Any]) -> Path:
    path = root / 'annotations' / f'person_keypoints_{split}2017.json'
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(dict(images=images, annotations=annotations, categories=[category])))
    return path
