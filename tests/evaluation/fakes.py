"""A small labeled data set and a backbone with every trap that an evaluation can fall into."""

from __future__ import annotations

import torch
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mstkit.structures import TokenOutput


class ColorDataset(torch.utils.data.Dataset):
    """Images of 8 px that are mostly one of ``classes`` gray values, and know their index by their first pixel."""

    def __init__(self, size: int = 13, classes: int = 3, labeled: bool = True, views: int = 0) -> None:
        self.size, self.labeled, self.views = size, labeled, views
        self.metainfo = {'classes': tuple(f'color {index}' for index in range(classes))}
        self.reads: list[int] = []

    def __len__(self) -> int:
        return self.size

    def get_data_info(self, index: int) -> dict:
        return {'gt_label': index % len(self.metainfo['classes'])} if self.labeled else {}

    def __getitem__(self, index: int) -> dict:
        self.reads.append(int(index))
        sample = DataSample()
        label = int(index) % len(self.metainfo['classes'])
        if self.labeled:
            sample.set_gt_label(label)
        generator = torch.Generator().manual_seed(int(index))
        image = (80 * label + torch.randint(0, 60, (3, 8, 8), generator=generator)).to(torch.uint8)
        image[0, 0, 0] = int(index)
        return {'inputs': [image] * self.views if self.views else image, 'data_samples': sample}


class FakeBackbone(nn.Module):
    """Batch norm and dropout give away a wrong mode; ``train`` and ``eval`` return None, as mmpretrain's do."""

    def __init__(self, size: int = 6) -> None:
        super().__init__()
        self.embed = nn.Linear(3 * 8 * 8, size)
        self.norm = nn.BatchNorm1d(size)
        self.drop = nn.Dropout(0.5)

    def train(self, mode: bool = True) -> None:  # type: ignore[override]
        super().train(mode)

    def eval(self) -> None:  # type: ignore[override]
        self.train(False)

    def forward_tokens(self, images: Tensor, mask: Tensor | None = None, return_attention: bool = False) -> TokenOutput:
        pooled = self.drop(self.norm(self.embed(images.flatten(1))))
        return TokenOutput(pooled[:, None], pooled, (1, 1))
