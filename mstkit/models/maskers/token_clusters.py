"""Clusters of the patches of each image by their tokens: spherical k-means of all images of a batch at once."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import functional as F


def token_clusters(tokens: Tensor, count: int, iterations: int, generator: Generator) -> Tensor:
    """Sorts the patches of each image into clusters by the cosine similarity of their tokens.

    The first centers are drawn as in k-means++ (Arthur and Vassilvitskii, 2007): patches, one after another, in
    proportion to 1 - cos, their squared distance on the sphere to the nearest center so far. Then follow a fixed number
    of Lloyd's iterations. In float32 and without a loop over images. A cluster that loses all of its patches keeps its
    center, so that fewer than ``count`` clusters can have patches: always in an image with fewer patches.

    Args:
        tokens: (B, L, C).
        count: number P of clusters.
        iterations: how often the centers are moved.
        generator: of the first centers, on the device of the tokens.

    Returns:
        (B, L) int64, the cluster of each patch, 0 to P - 1; of equally similar centers the first.
    """
    with torch.autocast(tokens.device.type, enabled=False), torch.no_grad():
        unit = F.normalize(tokens.float(), dim=-1)
        centers = _first_centers(unit, count, generator)
        for _ in range(iterations):
            members = F.one_hot(_nearest(unit, centers), count).to(unit.dtype)  # (B, L, P)
            sums = members.transpose(1, 2) @ unit  # (B, P, C)
            centers = torch.where(members.any(dim=1).unsqueeze(-1), F.normalize(sums, dim=-1), centers)
        return _nearest(unit, centers)


def _nearest(unit: Tensor, centers: Tensor) -> Tensor:
    return (unit @ centers.transpose(1, 2)).argmax(dim=-1)  # (B, L)


def _first_centers(unit: Tensor, count: int, generator: Generator) -> Tensor:
    """(B, P, C), patches of each image."""
    batch, length, channels = unit.shape
    arrivals = -torch.rand((count, batch, length), generator=generator, device=unit.device).log()  # exponential, rate 1
    distance = unit.new_ones(batch, length)
    chosen = []
    for times in arrivals:
        # The first of exponential arrivals at rate w is a draw in proportion to w; see functional.weighted_places. A
        # patch at a center already never arrives; if all are, the first patch is taken once more.
        index = (distance / times.clamp_min(torch.finfo(times.dtype).tiny)).argmax(dim=1)
        center = unit.gather(1, index.view(-1, 1, 1).expand(-1, 1, channels))  # (B, 1, C)
        chosen.append(center)
        away = (1 - (unit * center).sum(dim=-1)).clamp_min(0)
        distance = away if len(chosen) == 1 else torch.minimum(distance, away)
    return torch.cat(chosen, dim=1)
