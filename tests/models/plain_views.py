"""MSN and CMAE written plainly from its formulas, image by image, in float64, as a reference."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.models.plain_mim import Weights, embedded, layers, linear, normed, patches, position


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


def perceptron(x: Tensor, weights: Weights, name: str, eps: float) -> Tensor:
    """CMAE's projector and predictor, (B, C) to (B, D): linear, batch norm, ReLU, linear."""
    hidden = batch_normed(linear(x, weights, f'{name}.fc0'), weights, f'{name}.bn0', eps)
    return linear(hidden * (hidden > 0), weights, f'{name}.fc1')


def cmae_features(image: Tensor, hidden: Tensor, weights: Weights, side: int, heads: tuple[int, int]) -> Tensor:
    """What MAE's encoder and CMAE's feature decoder make of the visible patches of an image: (L, C)."""
    name = 'objectives.contrast.decoder'
    depth, own_depth = (
        len({key.split(f'{part}.')[1].split('.')[0] for key in weights if key.startswith(f'{part}.')})
        for part in ('backbone.layers', f'{name}.layers')
    )
    cut, dims = patches(image, side), weights['backbone.cls_token'].shape[-1]
    tokens = [weights['backbone.cls_token'].flatten()]
    for row, column, pixels in cut:
        if not hidden[row, column]:
            tokens.append(embedded(pixels, weights) + position(row, column, dims))
    seen = layers(torch.stack(tokens), weights, 'backbone.layers', depth, heads[0])
    seen = linear(normed(seen, weights, 'backbone.ln1'), weights, f'{name}.embed')
    visible, whole = iter(seen[1:]), [seen[0]]
    for row, column, _ in cut:
        token = weights[f'{name}.mask_token'].flatten() if hidden[row, column] else next(visible)
        whole.append(token + position(row, column, seen.shape[1]))
    made = layers(torch.stack(whole), weights, f'{name}.layers', own_depth, heads[1])
    return linear(normed(made, weights, f'{name}.norm'), weights, f'{name}.predict')[1:]


def cmae_contrast(
    images: Tensor, target: Tensor, mask: Tensor, weights: Weights, teacher: Weights, side: int, heads: tuple[int, int]
) -> Tensor:
    """CMAE's InfoNCE, temperature .07: minus the mean log-share of the own image among all; no norm in the teacher."""
    depth = len({key.split('.')[2] for key in weights if key.startswith('backbone.layers.')})
    keys = []
    for image in target.double():
        tokens = [teacher['backbone.cls_token'].flatten()]
        for row, column, pixels in patches(image, side):
            tokens.append(embedded(pixels, teacher) + position(row, column, len(tokens[0])))
        keys.append(layers(torch.stack(tokens), teacher, 'backbone.layers', depth, heads[0])[1:].mean(dim=0))
    aims = perceptron(torch.stack(keys), teacher, 'contrast_neck', 1e-6)
    features = [
        cmae_features(image, gone, weights, side, heads) for image, gone in zip(images.double(), mask, strict=True)
    ]
    means = torch.stack([one.sum(dim=0) / len(one) for one in features])
    found = perceptron(means, weights, 'objectives.contrast.neck', 1e-6)
    found = perceptron(found, weights, 'objectives.contrast.predictor', 1e-6)
    total = torch.zeros((), dtype=torch.float64)
    for number, query in enumerate(found):
        cosines = torch.stack([(query * aim).sum() / (query.norm() * aim.norm()) for aim in aims])
        own = number % len(aims)
        total = total - torch.log(torch.exp(cosines[own] / 0.07) / torch.exp(cosines / 0.07).sum())
    return total / len(found)
