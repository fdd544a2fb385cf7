"""Made videos in the layouts of DAVIS 2017, OTB and GOT-10k, and a network that sees colors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from mstkit.structures import TokenOutput

HEIGHT, WIDTH, SIDE, STEP = 64, 128, 24, 5
COLORS = [0, 0, 0, 200, 0, 0, 0, 200, 0, *[9] * 750, 255, 255, 255]


def label_map(index: int) -> np.ndarray:
    """A square that goes right, and a smaller one that goes left below it."""
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[4 : 4 + SIDE, 6 + STEP * index : 6 + STEP * index + SIDE] = 1
    labels[40:56, 100 - STEP * index : 116 - STEP * index] = 3
    return labels


def frame(index: int) -> np.ndarray:
    """Objects of one color each, on a bluish texture that stays where it is."""
    pixels = np.random.default_rng(0).integers((20, 60, 150), (80, 120, 210), (HEIGHT, WIDTH, 3))
    labels = label_map(index)
    pixels[labels == 1] = [220, 40, 30]
    pixels[labels == 3] = [40, 230, 60]
    return pixels.astype(np.uint8)


def save_labels(path: Path, labels: np.ndarray) -> None:
    image = Image.fromarray(labels)
    image.putpalette(COLORS)
    image.save(path)


def write_davis(root: Path, names: tuple[str, ...] = ('going', 'coming'), frames: int = 8) -> Path:
    """Writes videos as they are handed out: lossy images, label maps with a palette, a list."""
    (root / 'ImageSets' / '2017').mkdir(parents=True)
    (root / 'ImageSets' / '2017' / 'val.txt').write_text('\n'.join(names) + '\n')
    for name in names:
        images, maps = root / 'JPEGImages' / '480p' / name, root / 'Annotations' / '480p' / name
        images.mkdir(parents=True)
        maps.mkdir(parents=True)
        for place in range(frames):
            index = place if name == 'going' else frames - 1 - place
            Image.fromarray(frame(index)).save(images / f'{place:05d}.jpg', quality=95, subsampling=0)
            save_labels(maps / f'{place:05d}.png', label_map(index))
    return root


def box(index: int, number: int = 1) -> tuple[int, int, int, int]:
    """Left, top, width and height of the square that goes right (1), or of the one that goes left (3)."""
    return (6 + STEP * index, 4, SIDE, SIDE) if number == 1 else (100 - STEP * index, 40, 16, 16)


def write_got10k(root: Path, frames: int = 6, split: str = 'val') -> Path:
    """The square that goes right is to be followed in 'going', the one that goes left in 'coming'."""
    for name, number in (('going', 1), ('coming', 3)):
        folder = root / split / name
        folder.mkdir(parents=True)
        for index in range(frames):
            Image.fromarray(frame(index)).save(folder / f'{index + 1:08d}.jpg', quality=95, subsampling=0)
        lines = [','.join(f'{side:.4f}' for side in box(index, number)) for index in range(frames)]
        (folder / 'groundtruth.txt').write_text('\n'.join(lines[:1] if split == 'test' else lines) + '\n')
    (root / split / 'list.txt').write_text('going\ncoming\n')
    return root


def write_otb(root: Path, frames: int = 6, between: str = '\t') -> Path:
    """A video of one target, 'Going', and one of both, 'Pair'."""
    for name, numbers in (('Going', {'': 1}), ('Pair', {'.1': 1, '.2': 3})):
        (root / name / 'img').mkdir(parents=True)
        for index in range(frames):
            Image.fromarray(frame(index)).save(root / name / 'img' / f'{index + 1:04d}.jpg', quality=95, subsampling=0)
        for suffix, number in numbers.items():
            boxes = [box(index, number) for index in range(frames)]
            lines = [between.join(map(str, (left + 1, top + 1, *size))) for left, top, *size in boxes]
            (root / name / f'groundtruth_rect{suffix}.txt').write_text('\r\n'.join(lines) + '\r\n')
    return root


class ColorNetwork:
    """Its tokens are the mean colors of patches."""

    name, image_size, mean, std = 'colors', 32, (110.0, 110.0, 110.0), (60.0, 60.0, 60.0)

    def __init__(self, patch: int = 4) -> None:
        self.patch = patch
        self.seen: list[tuple[int, ...]] = []

    def __call__(self, images: torch.Tensor) -> TokenOutput:
        self.seen.append(tuple(images.shape))
        maps = functional.avg_pool2d(images, self.patch)
        tokens = maps.flatten(2).transpose(1, 2)
        return TokenOutput(tokens, tokens.mean(dim=1), tuple(maps.shape[-2:]))
