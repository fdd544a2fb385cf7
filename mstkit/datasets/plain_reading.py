"""Reads some images of a folder into one tensor, for visualization and analysis tools."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mstkit.datasets.folder_scan import scan_folder
from mstkit.datasets.image_reader import LoadRGB, UnreadableImage
from mstkit.datasets.splits import find_split
from mstkit.errors import UsageError
from mstkit.registry import TRANSFORMS


class Images(NamedTuple):
    """Images of a folder.

    Attributes:
        images: (M, 3, H, W) uint8 RGB, in file order.
        unreadable: the files that could not be read, relative to the folder, each with the reason.
    """

    images: Tensor
    unreadable: list[str]


def read_images(folder: str | os.PathLike[str], views: Sequence[Mapping[str, Any]], most: int) -> Images:
    """Reads evenly spaced images of a folder, without replacing unreadable ones.

    Args:
        folder: of images, at any depth.
        views: transforms after ``LoadRGB``, which give all images the same size.
        most: maximum number of files; they are evenly spaced over all, so that all sub-folders are covered.

    Raises:
        UsageError: no such folder, no image in it, or none that can be read.
    """
    root = find_split(os.fspath(folder), '')
    scan = scan_folder(root)
    if not scan.images:
        raise UsageError(
            f'the folder {folder} holds no images{scan.ignored_in_words()}: give the folder that holds them, directly '
            'or in sub-folders.'
        )
    count = min(most, len(scan.images))
    transforms = [LoadRGB(), *(TRANSFORMS.build(view) for view in views)]
    images, unreadable = [], []
    for path in (scan.images[index * len(scan.images) // count] for index in range(count)):
        results: dict[str, Any] = dict(img_path=str(Path(root) / path))
        try:
            for transform in transforms:
                results = transform.transform(results)
        except UnreadableImage as error:
            unreadable.append(f'{path} ({error.reason})')
        else:
            images.append(torch.from_numpy(results['img']).permute(2, 0, 1))
    if not images:
        raise UsageError(f'the folder {folder}: of {count} images none can be read, the first is {unreadable[0]}.')
    return Images(torch.stack(images), unreadable)
