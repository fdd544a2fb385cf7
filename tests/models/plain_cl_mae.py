"""CL-MAE written plainly from its formulas, image by image, in float64 and by two passes, as a reference."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from tests.models.plain_mim import (
    Weights,
    attention,
    decoded,
    depth_of,
    embedded,
    layers,
    linear,
    mae_target,
    normed,
    patches,
    position,
)

NETWORK = 'objectives.hide.network'


def less_normed(x: Tensor, weights: Weights, name: str) -> Tensor:
    """With the epsilon of torch's LayerNorm, where the encoder's is 1e-6."""
    centered = x - x.mean(dim=-1, keepdim=True)
    return (
        centered / ((centered**2).mean(dim=-1, keepdim=True) + 1e-5).sqrt() * weights[f'{name}.weight']
        + weights[f'{name}.bias']
    )


def placed_patches(image: Tensor, weights: Weights, side: int) -> Tensor:
    """Patch embeddings with positions of one image, (L, C)."""
    dims = weights['backbone.cls_token'].shape[-1]
    cut = patches(image.double(), side)
    return torch.stack([embedded(pixels, weights) + position(row, column, dims) for row, column, pixels in cut])


def visibilities(placed: Tensor, weights: Weights, heads: int) -> Tensor:
    """What the masking network says of one image's patch embeddings, (L,)."""
    x = torch.cat([weights[f'{NETWORK}.cls_token'].reshape(1, -1), placed])
    for depth in range(depth_of(weights, f'{NETWORK}.layers')):
        layer = f'{NETWORK}.layers.{depth}'
        x = x + attention(less_normed(x, weights, f'{layer}.ln1'), weights, f'{layer}.attn', heads)
        hidden = linear(less_normed(x, weights, f'{layer}.ln2'), weights, f'{layer}.ffn.layers.0.0')
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
        x = x + linear(hidden, weights, f'{layer}.ffn.layers.1')
    logits = linear(less_normed(x[:1], weights, f'{NETWORK}.norm'), weights, f'{NETWORK}.visibility')[0]
    return 1 / (1 + torch.exp(-logits))


def hidden_patches(p: Tensor, ratio: float) -> Tensor:
    """(L,) bool: all but the int(L (1 − r)) most visible."""
    kept = sorted(range(len(p)), key=lambda place: -p[place].item())[: int(len(p) * (1 - ratio))]
    return torch.tensor([place not in kept for place in range(len(p))])


def soft_error(images: Tensor, p: Tensor, weights: Weights, side: int, heads: tuple[int, int], norm: bool) -> Tensor:
    """Mean error of a pass over all patches, each embedding times its visibility, p (B, L); weights 1 − p."""
    decoder, total, weight = 'objectives.predict.decoder', torch.zeros((), dtype=torch.float64), 0.0
    grid = images.shape[2] // side, images.shape[3] // side
    for image, seen in zip(images.double(), p, strict=True):
        faded = placed_patches(image, weights, side) * seen[:, None]
        tokens = torch.cat([weights['backbone.cls_token'].reshape(1, -1), faded])
        tokens = layers(tokens, weights, 'backbone.layers', depth_of(weights, 'backbone.layers'), heads[0])
        nothing = torch.zeros(grid, dtype=torch.bool)
        made = decoded(normed(tokens, weights, 'backbone.ln1'), nothing, weights, decoder, heads[1])
        made = linear(made, weights, f'{decoder}.predict')
        for (row, column, pixels), predicted in zip(patches(image, side), made, strict=True):
            share = 1 - seen[row * grid[1] + column]
            total = total + share * ((predicted - mae_target(pixels, norm)) ** 2).mean()
            weight = weight + share
    return total / weight


def regular_terms(p: Tensor, visible: float) -> tuple[Tensor, Tensor, Tensor]:
    """Gaussian, divergence and likeness of p (B, L), number by number."""
    sigma = 0.12
    beta = 1 / (sigma * math.sqrt(2 * math.pi))
    gauss = sum((-((one - 0.5) ** 2) / (2 * sigma**2)).exp() / beta for one in p.flatten()) / p.numel()
    kl = torch.zeros((), dtype=p.dtype)
    for image in p:
        mean = image.sum() / len(image)
        kl = kl + mean * (mean / visible).log() + (1 - mean) * ((1 - mean) / (1 - visible)).log()
    pairs = [(i, j) for i, j in np.ndindex(len(p), len(p)) if i < j]
    alike = sum((-0.1 * ((p[i] - p[j]) ** 2).sum().sqrt()).exp() for i, j in pairs) / len(pairs)
    return torch.as_tensor(gauss), kl / len(p), torch.as_tensor(alike)
