"""The images of a folder, each with its name; those that cannot be read say so instead of being replaced."""

from __future__ import annotations

import os
from pathlib import PurePath
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from mstkit.datasets import CenterView, ImageFolder, LoadRGB, UnreadableImage


class ReadImage(NamedTuple):
    """An image of :class:`ListedImages`.

    Attributes:
        index: its place in the list.
        pixels: (3, H, W) uint8; None if it cannot be read.
        reason: why it cannot be read.
    """

    index: int  # type: ignore[assignment]
    pixels: Tensor | None
    reason: str = ''


class ReadBatch(NamedTuple):
    """Images of :class:`ListedImages`, from a data loader with :func:`join`.

    Attributes:
        stop: the place in the list behind the last one.
        indices: the places of those that could be read, (B,) int64.
        pixels: (B, 3, H, W) uint8; None if none could be read.
        unreadable: the place of each other image, and the reason.
    """

    stop: int
    indices: Tensor
    pixels: Tensor | None
    unreadable: dict[int, str]


class ListedImages(Dataset):
    """All images below a folder, in a fixed order, resized and cropped.

    Args:
        folder: of images, in any depth.
        resize: shorter side in pixels before the crop.
        crop: side of the central square in pixels.
        labeled: take sub-folders for classes, if all images lie in such; see :class:`mstkit.datasets.ImageFolder`.

    Attributes:
        root: the folder.
        names: the path of each image below it, with forward slashes.
        classes: names of the classes; empty without classes.
        labels: (M,) int64, the class of each image; empty without classes.

    Raises:
        UsageError: no such folder, or no image in it.
    """

    def __init__(self, folder: str | os.PathLike[str], resize: int, crop: int, labeled: bool = True) -> None:
        listed = ImageFolder(os.fspath(folder), split='', labeled='auto' if labeled else False)
        self.root = listed.folder
        infos: list[dict[str, Any]] = [listed.get_data_info(index) for index in range(len(listed))]
        self.names = [PurePath(os.path.relpath(info['img_path'], self.root)).as_posix() for info in infos]
        self.classes = tuple(listed.metainfo.get('classes') or ()) if 'gt_label' in infos[0] else ()
        self.labels = torch.tensor([info['gt_label'] for info in infos] if self.classes else [], dtype=torch.int64)
        self._steps = (LoadRGB(), CenterView(resize, crop))

    def __len__(self) -> int:
        return len(self.names)

    def path(self, index: int) -> str:
        """The file of an image."""
        return os.path.join(self.root, self.names[index])

    def __getitem__(self, index: int) -> ReadImage:
        """Reads an image."""
        results: dict[str, Any] = dict(img_path=self.path(index))
        try:
            for step in self._steps:
                results = step.transform(results)
        except UnreadableImage as error:
            return ReadImage(index, None, error.reason)
        return ReadImage(index, torch.from_numpy(results['img']).permute(2, 0, 1).contiguous())


def join(images: list[ReadImage]) -> ReadBatch:
    """The ``collate_fn`` of a data loader."""
    read = {image.index: image.pixels for image in images if image.pixels is not None}
    unreadable = {image.index: image.reason for image in images if image.pixels is None}
    pixels = torch.stack(list(read.values())) if read else None
    return ReadBatch(images[-1].index + 1, torch.tensor(list(read), dtype=torch.int64), pixels, unreadable)
