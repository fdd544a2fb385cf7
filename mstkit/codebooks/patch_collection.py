"""Features of many patches, and the patches themselves to look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mstkit.codebooks.image_batches import ImageSet
from mstkit.codebooks.spherical_kmeans import keyed
from mstkit.errors import UsageError
from mstkit.utils.progress_bar import track

CONTEXT = 1  # patches of the image that an example shows on each side


class Collection(NamedTuple):
    """Patches of a set of images.

    Attributes:
        features: (N, D) float32, on the CPU.
        images: (N,) int64, the place of each patch's image in the set.
        cells: (N,) int64, its place on the flat grid.
    """

    features: Tensor
    images: Tensor
    cells: Tensor


def collect(
    features_of: Callable[[Tensor], Tensor],
    images: ImageSet,
    cells: int,
    patches: int,
    seed: int = 0,
    batch_size: int = 32,
    workers: int = 0,
    device: torch.device | str = 'cpu',
    description: str = 'features of patches',
) -> Collection:
    """Features of about so many patches, equally many of every image, at random places.

    Args:
        features_of: from pixels (B, 3, H, W), float32, 0 to 255, on the device, to features (B, L, D).
        images: where they come from.
        cells: L.
        patches: how many, at least one of each image.
        seed: of the places; those of an image depend on nothing else.
        batch_size: images that go through at once.
        workers: processes that read images.
        device: of the features.
        description: for the progress.

    Raises:
        UsageError: too many images cannot be read; features that are not finite.
    """
    each = min(cells, -(-patches // len(images)))
    order = [list(part.tolist()) for part in torch.arange(len(images)).split(batch_size)]
    rows, owners, places = [], [], []
    for batch in track(images.batches(order, workers), len(order), description):
        with torch.no_grad():
            found = features_of(batch.pixels.to(device).float()).cpu()
        drawn = [torch.randperm(cells, generator=keyed(seed, 7, index))[:each] for index in batch.indices]
        for index, feature, place in zip(batch.indices, found, drawn, strict=True):
            if not feature.isfinite().all():
                raise UsageError(
                    f'the features of {images.paths[index]} are not finite: the network has diverged or overflows; '
                    'take another checkpoint of it'
                )
            rows.append(feature[place].float())
            owners.append(torch.full((len(place),), index))
            places.append(place)
    return Collection(torch.cat(rows), torch.cat(owners), torch.cat(places))


def cut_patches(
    images: ImageSet, owners: Tensor, cells: Tensor, grid: tuple[int, int], side: int, context: int = 0
) -> Tensor:
    """Patches as they look: (N, 3, s, s) uint8, with ``context`` patches around each, s = (2 context + 1) side.

    Args:
        images: where they come from.
        owners: (N,), places of their images in the set.
        cells: (N,), their places on the flat grid.
        grid: (h, w).
        side: of a patch, in pixels of the images.
        context: beyond the image it is gray.
    """
    margin = context * side
    size = 2 * margin + side
    made = torch.full((len(owners), 3, size, size), 128, dtype=torch.uint8)
    wanted = owners.unique().tolist()
    for batch in images.batches([wanted[start : start + 32] for start in range(0, len(wanted), 32)]):
        padded = torch.nn.functional.pad(batch.pixels, (margin,) * 4, value=128)
        for index, image in zip(batch.indices, padded, strict=True):
            for row in (owners == index).nonzero().flatten().tolist():
                y, x = (int(part) * side for part in divmod(int(cells[row]), grid[1]))
                made[row] = image[:, y : y + size, x : x + size]
    return made


def nearest_rows(features: Tensor, centers: Tensor, codes: Sequence[int] | Tensor, count: int) -> Tensor:
    """Places of the features (N, D), of length 1, nearest to some codes: (len(codes), count), the nearest first."""
    chosen = centers[torch.as_tensor(codes)]
    best = torch.full((len(chosen), 0), 0.0)
    found = torch.zeros((len(chosen), 0), dtype=torch.int64)
    for start in range(0, len(features), 1 << 14):  # so that similarities of all are never there at once
        cosines = chosen @ features[start : start + (1 << 14)].T
        places = torch.arange(start, start + cosines.shape[1]).expand(len(chosen), -1)
        best, found = torch.cat((best, cosines), dim=1), torch.cat((found, places), dim=1)
        best, order = best.topk(min(count, best.shape[1]), dim=1)
        found = found.gather(1, order)
    return found
