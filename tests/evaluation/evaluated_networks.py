"""Folders of small images, and a network that counts what it is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from mstkit.errors import UsageError
from mstkit.evaluation import EvaluatedNetwork
from mstkit.structures import TokenOutput

CLASSES = ('dark', 'light', 'red')


class CountingNetwork(nn.Module):
    """Its features are the colors of a grid of ``last_blocks + 1`` squares a side, and the mean color if asked."""

    def __init__(self, name: str = 'counting', image_size: int = 16, fingerprint: str = 'f1') -> None:
        super().__init__()
        self.name, self.image_size, self.fingerprint = name, image_size, fingerprint
        self.resize = image_size + 2
        self.layout, self.blocks = 'vit', (None,) * 4
        self.mean, self.std = (120.0, 110.0, 100.0), (60.0, 50.0, 40.0)
        self.seen = 0  # images

    def features(self, images: Tensor, last_blocks: int = 1, mean_patch: bool = False) -> Tensor:
        if last_blocks > len(self.blocks):
            raise UsageError(f'last_blocks is {last_blocks}; {self.name} has {len(self.blocks)} blocks.')
        self.seen += len(images)
        squares = nn.functional.adaptive_avg_pool2d(images, last_blocks + 1).flatten(1)
        return torch.cat([squares, images.mean(dim=(2, 3))], dim=1) if mean_patch else squares

    def forward(self, images: Tensor) -> TokenOutput:
        patches = nn.functional.adaptive_avg_pool2d(images, 2).flatten(2).transpose(1, 2)
        return TokenOutput(patches, patches.mean(dim=1), (2, 2))

    def watch(self, images: Tensor, on_tokens: Any = None, on_attention: Any = None, blocks: Any = None) -> TokenOutput:
        raise NotImplementedError


def make_folders(root: Path, train: int = 8, val: int = 3, classes: tuple[str, ...] = CLASSES) -> Path:
    """``root/train/CLASS/0.png`` and so on: noise of a brightness by class, the last class in red."""
    generator = np.random.default_rng(0)
    for split, count in (('train', train), ('val', val)):
        for label, name in enumerate(classes):
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(0, 120, (20, 26, 3)) + (60 * label if name != 'red' else [120, 0, 0])
                Image.fromarray(pixels.astype(np.uint8)).save(root / split / name / f'{index:02}.png')
    return root


def evaluated_of(root: Path, network: Any = None, **settings: Any) -> EvaluatedNetwork:
    """A evaluated over folders of :func:`make_folders`."""
    given = dict(num_workers=0, batch_size=5) | settings
    return EvaluatedNetwork(network or CountingNetwork(), root / 'train', root / 'val', **given)
