"""MSN written plainly from its formulas, image by image, in float64, as a reference."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.models.plain_mim import Weights, embedded, layers, linear, normed, patches


def placed_patches(image: Tensor, weights: Weights, side: int, start: int) -> list[Tensor]:
    """The embedded patches of an image with learned positions, made for a square grid of ``start`` patches a side."""
    rows, columns = image.shape[1] // side, image.shape[2] // side
    table = weights['backbone.pos_embed'][0, 1:].T.reshape(1, -1, start, start)
    if (rows, columns) != (start, start):
        table = F.interpolate(table, (rows, columns), mode='bicubic')
    cut = patches(image, side)
    return [embedded(pixels, weights) + table[0, :, row, column] for row, column, pixels in cut]


def encoded(image: Tensor, hidden: Tensor | None, weights: Weights, side: int, heads: int, start: int) -> Tensor:
    """The normed tokens of a ViT, class token first, which gets no hidden patch."""
    depth = len({key.split('.')[2] for key in weights if key.startswith('backbone.layers.')})
    found = placed_patches(image, weights, side, start)
    keep = [True] * len(found) if hidden is None else [not gone for gone in hidden.flatten().tolist()]
    first = weights['backbone.cls_token'].flatten() + weights['backbone.pos_embed'][0, 0]
    tokens = torch.stack([first, *[one for one, kept in zip(found, keep, strict=True) if kept]])
    return normed(layers(tokens, weights, 'backbone.layers', depth, heads), weights, 'backbone.ln1')


def batch_normed(x: Tensor, weights: Weights, name: str, eps: float = 1e-5) -> Tensor:
    """Of a batch (B, C), by its own mean and biased variance."""
    centered = x - x.sum(dim=0) / len(x)
    variance = (centered**2).sum(dim=0) / len(x)
    return centered / (variance + eps).sqrt() * weights[f'{name}.weight'] + weights[f'{name}.bias']


def msn_head(x: Tensor, weights: Weights, name: str) -> Tensor:
    """(B, C) to (B, D) of length 1: linear, batch norm, GELU, twice, and linear."""
    for depth in range(2):
        x = batch_normed(linear(x, weights, f'{name}.mlp.{depth}'), weights, f'{name}.norms.{depth}')
        x = x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))
    x = linear(x, weights, f'{name}.mlp.2')
    return x / (x**2).sum(dim=1, keepdim=True).sqrt()


def balanced(assignments: Tensor) -> Tensor:
    """SwAV's Sinkhorn-Knopp, three times: (B, K), of which each row sums to 1."""
    for _ in range(3):
        assignments = assignments / assignments.sum(dim=0, keepdim=True)
        assignments = assignments / assignments.sum(dim=1, keepdim=True)
    return assignments


def msn_loss(
    anchors: Tensor,
    target: Tensor,
    focal: Sequence[Tensor],
    mask: Tensor,
    weights: Weights,
    teacher: Weights,
    side: int,
    heads: int,
    sinkhorn: bool = True,
    entropy_weight: float = 1.0,
) -> Tensor:
    """MSN's, temperature .1 and sharpening .25; anchors (V*B, 3, H, W), focal views of a size in a batch each.

    The teacher has weights of its own, but for the prototypes.
    """
    start, name = math.isqrt(weights['backbone.pos_embed'].shape[1] - 1), 'objectives.match.neck'
    rows = weights[f'{name}.last_layer.parametrizations.weight.original1']
    prototypes = rows / (rows**2).sum(dim=1, keepdim=True).sqrt()

    def assigned(batch: Tensor, hidden: Tensor | None, own: Weights, head: str) -> Tensor:
        pooled = []
        for number, image in enumerate(batch.double()):
            gone = None if hidden is None else hidden[number]
            pooled.append(encoded(image, gone, own, side, heads, start)[0])
        return torch.exp(msn_head(torch.stack(pooled), own, head) @ prototypes.T / 0.1)

    with torch.no_grad():
        aims = assigned(target, None, teacher, 'match_neck')
        aims = (aims / aims.sum(dim=1, keepdim=True)) ** 4
        aims = aims / aims.sum(dim=1, keepdim=True)
        aims = balanced(aims) if sinkhorn else aims
    found = [assigned(anchors, mask, weights, name), *[assigned(batch, None, weights, name) for batch in focal]]
    predicted = torch.cat([one / one.sum(dim=1, keepdim=True) for one in found])
    cross = -sum((aims[n % len(aims)] * torch.log(one)).sum() for n, one in enumerate(predicted)) / len(predicted)
    mean = predicted.sum(dim=0) / len(predicted)
    return cross + entropy_weight * (math.log(len(mean)) + (mean * torch.log(mean)).sum())
