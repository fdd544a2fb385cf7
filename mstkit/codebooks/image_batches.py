"""The images that a tokenizer is trained on, at one size, in an order that is known."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mstkit.datasets import CenterView, LoadRGB
from mstkit.datasets.folder_scan import scan_folder
from mstkit.datasets.image_reader import UnreadableImage
from mstkit.datasets.splits import find_split
from mstkit.datasets.unreadable_images import UnreadableFiles
from mstkit.errors import UsageError
from mstkit.utils.checks import check_count, check_workers


class ImageBatch(NamedTuple):
    """Some images.

    Attributes:
        indices: their places in the set.
        pixels: (B, 3, H, W) uint8 RGB.
    """

    indices: list[int]
    pixels: Tensor


class ImageSet(Dataset):
    """Images of a folder, each cut to its central square; those of ``DIR/train`` where that is there.

    Args:
        data_root: the folder.
        size: side of the square in pixels; the shorter side of the image is brought to it.
        most: only so many, evenly spread over the whole order.
        max_unreadable: the share of images that may be unreadable and are left out, 0 to 1.

    Raises:
        UsageError: no such folder, or no image in it.
    """

    def __init__(self, data_root: str | os.PathLike[str], size: int, most: int, max_unreadable: float = 0.01) -> None:
        folder = find_split(os.fspath(data_root), 'train')
        scan = scan_folder(folder)
        if not scan.images:
            raise UsageError(f'--data-root {data_root} holds no images{scan.ignored_in_words()}: give one that does')
        count = min(check_count('--images', most, 1), len(scan.images))
        self.paths = [Path(folder) / scan.images[index * len(scan.images) // count] for index in range(count)]
        self.transforms: list[Any] = [LoadRGB(), CenterView(size, size)]
        self.unreadable = UnreadableFiles(max_unreadable, owner='--max-unreadable')

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[int, Tensor | None, str]:
        results: dict[str, Any] = dict(img_path=str(self.paths[index]))
        try:
            for transform in self.transforms:
                results = transform.transform(results)
        except UnreadableImage as error:
            return index, None, error.reason
        return index, torch.from_numpy(results['img']).permute(2, 0, 1), ''

    def batches(self, order: Sequence[Sequence[int]], workers: int = 0) -> Iterator[ImageBatch]:
        """Images by their places, batch by batch; :attr:`unreadable` has those that are left out.

        Raises:
            UsageError: too many cannot be read.
        """
        loader: DataLoader = DataLoader(
            self,
            batch_sampler=list(order),  # type: ignore[arg-type]
            num_workers=check_workers('--num-workers', workers),
            collate_fn=list,
            generator=torch.Generator(),
        )
        for samples in loader:
            found = {str(self.paths[index]): reason for index, image, reason in samples if image is None}
            self.unreadable.add(found)
            self.unreadable.check(len(self), '--max-unreadable')
            read = [(index, image) for index, image, _ in samples if image is not None]
            if read:
                yield ImageBatch([index for index, _ in read], torch.stack([image for _, image in read]))
