"""Computes the features of all images of a folder, and writes them to a file."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.logging import print_log
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from mstkit.embedding.feature_files import Contents, check_out, write_features
from mstkit.embedding.listed_images import ListedImages, ReadBatch, join
from mstkit.embedding.part_files import Part, PartFiles
from mstkit.errors import UsageError
from mstkit.evaluation.feature_cache import digest_of_files
from mstkit.networks import Network
from mstkit.utils.checks import check_count, check_workers
from mstkit.utils.progress_bar import track

FORMAT = 1  # to be increased when a change of the code changes features
PART_BYTES, PART_SECONDS = 1 << 25, 30.0  # a part is written when it has so many bytes or took so long


class Embedded(NamedTuple):
    """What was written.

    Attributes:
        out: the file.
        images: how many images have features.
        shape: of the features of one image: (D,) or (L, D).
        classes: names of the labels; empty without labels.
        unreadable: the name of each image that could not be read, and why.
        resumed: how many images an interrupted run had done.
    """

    out: Path
    images: int
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    unreadable: dict[str, str]
    resumed: int


def embed_folder(
    network: Network,
    images: str | os.PathLike[str],
    out: str | os.PathLike[str],
    patches: bool = False,
    last_blocks: int = 1,
    labeled: bool = True,
    batch_size: int = 64,
    num_workers: int = 2,
    overwrite: bool = False,
) -> Embedded:
    """Writes the features of all images below a folder to a file, with their names and, if there are, labels.

    Finished parts are kept in a folder ``OUT.parts`` beside the file until it is complete: an interrupted run goes on
    behind them, if network, settings and image files are the same. Images that cannot be read are left out.

    Args:
        network: computes them, on its device.
        images: the folder.
        out: the file, ``.npz`` or ``.parquet``.
        patches: write the patch tokens (L, D) of each image instead of its pooled feature (D,).
        last_blocks: of how many of the last blocks, one behind the other in D, earlier blocks first.
        labeled: take sub-folders for classes, if all images lie in such.
        batch_size: images per forward pass.
        num_workers: processes that load images.
        overwrite: replace a file that is there.

    Raises:
        UsageError: the file cannot be written or is there, the folder has no images that can be read, the network has
            fewer blocks, or its features are not finite.
    """
    out = check_out(out, overwrite)
    check_count('batch_size', batch_size, 1)
    check_workers('num_workers', num_workers)
    encode = encoder_of(network, patches, last_blocks)
    listed = ListedImages(images, network.resize, network.image_size, labeled)
    settings = dict(patches=patches, last_blocks=last_blocks)
    files = digest_of_files(listed.root, (listed.path(index) for index in range(len(listed))))
    identity = dict(weights=network.fingerprint, view=repr(network.transform), **settings, files=files, format=FORMAT)
    parts = PartFiles(out, identity)
    with parts.opened():
        resumed = parts.done
        if resumed:
            print_log(f'embed: going on after {resumed} of {len(listed)} images', logger='current')
        _compute(network, encode, listed, parts, batch_size, num_workers)
        found = _summary(listed, parts, images)
        about = dict(network=network.name, branch=network.branch, origin=network.origin, **identity)
        labels, names = listed.labels.numpy(), listed.names
        contents = Contents(names, labels, listed.classes, found.shape, found.images, about)
        write_features(out, parts.read, contents)
        parts.remove()
    return found._replace(out=out, resumed=resumed)


def encoder_of(network: Network, patches: bool, last_blocks: int) -> Callable[[Tensor], Tensor]:
    """A function of normalized images (B, 3, H, W) that gives their features, (B, D), or (B, L, D) of patches.

    Raises:
        UsageError: more blocks than the network has, or patches of blocks of different grids.
    """
    layers = network.layers(last_blocks)  # refuses a wrong number
    if not patches:
        return lambda images: network.features(images, last_blocks)

    def of_patches(images: Tensor) -> Tensor:
        found = layers(images)
        if len({output.grid for output in found}) > 1:
            grids = ', '.join(f'{output.grid[0]}x{output.grid[1]}' for output in found)
            raise UsageError(
                f'the last {last_blocks} blocks of {network.name} have different grids of patches ({grids}): give '
                'fewer, so that all are of its last stage.'
            )
        return torch.cat([output.patch_tokens for output in found], dim=-1)

    return of_patches


@torch.no_grad()
def _compute(
    network: Network,
    encode: Callable[[Tensor], Tensor],
    listed: ListedImages,
    parts: PartFiles,
    batch_size: int,
    num_workers: int,
) -> None:
    """Computes what is missing, part by part."""
    start, size = parts.done, len(listed)
    loader: DataLoader = DataLoader(
        Subset(listed, range(start, size)),
        batch_size=batch_size,
        num_workers=num_workers,
        collate_fn=join,
        generator=torch.Generator(),
    )
    with _counted(size, start, f'features of {network.name}') as count:
        pending: list[tuple[ReadBatch, np.ndarray | None]] = []
        size_in_bytes, since = 0, time.monotonic()
        for batch in loader:
            features = None
            if batch.pixels is not None:
                images = network.transform.normalize(batch.pixels.to(network.device))
                features = _checked(encode(images), network).cpu().numpy()
                size_in_bytes += features.nbytes
            pending.append((batch, features))
            count(batch.stop)
            if size_in_bytes >= PART_BYTES or time.monotonic() - since >= PART_SECONDS or batch.stop == size:
                parts.write(start, batch.stop, _joined(pending))
                pending, start, size_in_bytes, since = [], batch.stop, 0, time.monotonic()


@contextmanager
def _counted(size: int, start: int, description: str) -> Iterator[Callable[[int], None]]:
    """Shows the progress of ``size`` images, of which ``start`` are done."""
    shown: Any = track(range(start, size), size - start, description)
    reached = start
    next(shown, None)

    def count(stop: int) -> None:
        nonlocal reached
        while reached < stop:
            next(shown, None)
            reached += 1

    try:
        yield count
    finally:
        shown.close()


def _checked(features: Tensor, network: Network) -> Tensor:
    features = features.float()
    if not bool(torch.isfinite(features).all()):
        raise UsageError(
            f'features of {network.name} are not finite: its weights are damaged, or its training diverged.'
        )
    return features


def _joined(pending: list[tuple[ReadBatch, np.ndarray | None]]) -> Part:
    features = [found for _, found in pending if found is not None]
    unreadable = {index: reason for batch, _ in pending for index, reason in batch.unreadable.items()}
    return Part(
        torch.cat([batch.indices for batch, _ in pending]).numpy(),
        np.concatenate(features) if features else np.empty((0, 0), dtype=np.float32),
        np.array(list(unreadable), dtype=np.int64),
        np.array(list(unreadable.values()), dtype=str),
    )


def _summary(listed: ListedImages, parts: PartFiles, folder: str | os.PathLike[str]) -> Embedded:
    count, shape, unreadable = 0, tuple[int, ...](), dict[str, str]()
    for part in parts.read():
        if len(part.indices):
            count, shape = count + len(part.indices), part.features.shape[1:]
        for index, reason in zip(part.unreadable, part.reasons, strict=True):
            unreadable[listed.names[index]] = str(reason)
    if not count:
        parts.remove()
        first, reason = next(iter(unreadable.items()))
        raise UsageError(
            f'the folder {folder}: of {len(listed)} images none can be read, the first is {first} ({reason}).'
        )
    return Embedded(Path(), count, shape, listed.classes, unreadable, 0)
