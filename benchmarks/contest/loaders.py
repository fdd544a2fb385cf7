"""Loaders that are measured: their images decoded before, their batches without end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from mstkit.datasets.dataset_interface import parts_of
from mstkit.datasets.file_dataset import FileDataset
from mstkit.engine.checkpoints.data_order import sampler_of
from mstkit.utils.progress_bar import track


def decode_all(dataset: Any) -> bool:
    """Decodes all images that a data set, or one of those that it is made of, keeps; returns whether there are any."""
    keeping = [part for part in parts_of(dataset) if isinstance(part, FileDataset) and part.decoded is not None]
    for part in keeping:
        for index in track(range(len(part)), len(part), 'decoding'):
            part.decoded.read(part.get_data_info(index)['img_path'])
    return bool(keeping)


def endless(loader: DataLoader) -> Iterator[dict[str, Any]]:
    """Batches, epoch after epoch."""
    epoch = 0
    while True:
        sampler = sampler_of(loader)
        if hasattr(sampler, 'set_epoch'):
            sampler.set_epoch(epoch)
        yield from loader
        epoch += 1
