"""A frozen network that looks where it is bright, and images whose class is the color of a bright patch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from mstkit.structures import TokenOutput

COLORS = {'blue': (60, 60, 250), 'green': (60, 250, 60), 'red': (250, 60, 60)}


class Maps(NamedTuple):
    weights: Tensor
    positions: Tensor
    extra: int
    real: Tensor | None = None
    class_token: bool = True
    grid: tuple[int, int] | None = None


class BrightNetwork(nn.Module):
    """Patches of 8 px in images of 32; the class token attends to each patch by its brightness.

    A feature is, for block i, the mean color of the patches weighted by their attention, to the power of i + 1.
    """

    layout = 'vit'

    def __init__(self, name: str = 'bright', blocks: int = 4, fingerprint: str = 'f' * 64, size: int = 32) -> None:
        super().__init__()
        self.name, self.fingerprint, self.image_size = name, fingerprint, size
        self.mean, self.std = (100.0, 110.0, 120.0), (50.0, 60.0, 70.0)
        self.blocks = tuple(SimpleNamespace(index=index, module=nn.Identity()) for index in range(blocks))
        self.resize = round(size * 8 / 7)
        self.seen = 0
        self.eval()

    def colors(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalized to (B, L, 3) from 0 to 1."""
        mean, std = (images.new_tensor(values).view(1, 3, 1, 1) for values in (self.mean, self.std))
        return nn.functional.avg_pool2d((images * std + mean) / 255, 8).flatten(2).transpose(1, 2)

    def attention(self, images: Tensor) -> Tensor:
        return (20 * self.colors(images).mean(dim=2)).softmax(dim=1)

    def forward(self, images: Tensor) -> TokenOutput:
        side = images.shape[2] // 8
        return TokenOutput(self.colors(images), self.features(images), (side, side))

    def features(self, images: Tensor, last_blocks: int = 1, mean_patch: bool = False) -> Tensor:
        self.seen += len(images)
        pooled = (self.attention(images)[:, :, None] * self.colors(images)).sum(dim=1)
        parts = [10 * pooled ** (index + 1) for index in range(last_blocks)]
        return torch.cat([*parts, self.colors(images).mean(dim=1)] if mean_patch else parts, dim=1)

    def layers(self, count: int) -> Callable[[Tensor], list[TokenOutput]]:
        return lambda images: [self(images)] * count

    def watch(self, images: Tensor, on_tokens=None, on_attention=None, blocks=None) -> TokenOutput:
        assert tuple(blocks) == (len(self.blocks) - 1,)
        looks = self.attention(images)
        patches = looks.shape[1]
        weights = torch.full((len(images), 2, patches + 1, patches + 1), 1 / (patches + 1))
        weights[:, :, 0, 0], weights[:, 0, 0, 1:], weights[:, 1, 0, 1:] = 0, looks, looks**2
        side = torch.arange(images.shape[2] // 8) * 8.0 + 4
        on_attention(Maps(weights, torch.cartesian_prod(side, side), 1))
        return self(images)


def write_images(folder: Path, counts: dict[str, int], seed: int = 0, size: int = 38) -> None:
    """Class folders of noisy dark images with one bright square of the class's color."""
    random = np.random.default_rng(seed)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            pixels = random.integers(0, 90, (size, size, 3))
            y, x = random.integers(6, size - 16, 2)
            pixels[y : y + 10, x : x + 10] = COLORS[name.split('_')[-1]]
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f'{index:03}.png')
