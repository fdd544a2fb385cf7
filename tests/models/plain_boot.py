"""BootMAE written plainly from its formulas, image by image, in float64, as a reference."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from tests.models.plain_mim import Weights, depth_of, linear, normed, patches, position, standard, visible_tokens


def attended(x: Tensor, memory: Tensor, weights: Weights, name: str, heads: int) -> Tensor:
    """Multi-head attention of tokens (T, C) to memory (M, C'), head by head."""
    query, key, value = (
        linear(one, weights, f'{name}.{part}') for part, one in dict(query=x, key=memory, value=memory).items()
    )
    width, mixed = query.shape[1] // heads, []
    for head in range(heads):
        own = slice(head * width, (head + 1) * width)
        shares = torch.softmax(query[:, own] @ key[:, own].T / math.sqrt(width), dim=1)
        mixed.append(shares @ value[:, own])
    return linear(torch.cat(mixed, dim=1), weights, f'{name}.proj')


def boot_decoded(seen: Tensor, memory: Tensor, hidden: Tensor, weights: Weights, name: str, heads: int) -> Tensor:
    """What a decoder predicts, (L, D), of the encoder's tokens (1 + V, C) and those of another block of it."""
    seen = linear(seen, weights, f'{name}.embed')
    whole, visible = [seen[0]], 1
    for row, column in np.ndindex(*hidden.shape):
        if hidden[row, column]:  # the only tokens with a position of the decoder's
            whole.append(weights[f'{name}.mask_token'].flatten() + position(row, column, seen.shape[1]))
        else:
            whole.append(seen[visible])
            visible += 1
    x = torch.stack(whole)
    for depth in range(depth_of(weights, f'{name}.layers')):
        layer = f'{name}.layers.{depth}'
        own = normed(x, weights, f'{layer}.ln1')
        x = x + attended(own, own, weights, f'{layer}.attn', heads)
        read = normed(memory, weights, f'{layer}.ln_memory')
        x = x + attended(normed(x, weights, f'{layer}.ln_query'), read, weights, f'{layer}.cross', heads)
        wide = linear(normed(x, weights, f'{layer}.ln2'), weights, f'{layer}.ffn.layers.0.0')
        x = x + linear(wide * 0.5 * (1 + torch.erf(wide / math.sqrt(2))), weights, f'{layer}.ffn.layers.1')
    return linear(normed(x, weights, f'{name}.norm')[1:], weights, f'{name}.predict')


def by_channel(pixels: Tensor) -> Tensor:
    """Pixels (3, side, side), each channel at mean 0 and variance 1, the channels of a pixel side by side."""
    flat = pixels.flatten(1)
    centered = flat - flat.mean(dim=1, keepdim=True)
    return (centered / ((centered**2).mean(dim=1, keepdim=True) + 1e-5).sqrt()).T.flatten()


def boot_mae_losses(
    images: Tensor, mask: Tensor, weights: Weights, teacher: Weights, side: int, heads: tuple[int, int], weigh: bool
) -> tuple[Tensor, Tensor]:
    """BootMAE's losses of pixels and of features: heads of encoder and decoders.

    With ``weigh`` a hidden patch counts 1 + (hidden ones among it and its eight neighbors) / 9 times.
    """
    depth, of_pixels, of_features = depth_of(weights, 'backbone.layers'), [], []
    for image, hidden in zip(images.double(), mask, strict=True):
        first, last = (visible_tokens(image, hidden, weights, side, heads[0], count) for count in (1, depth))
        seen = normed(last, weights, 'backbone.ln1')
        features = visible_tokens(image, torch.zeros_like(hidden), teacher, side, heads[0], depth)[1:]
        pixels = boot_decoded(seen, first, hidden, weights, 'objectives.predict.decoder', heads[1])
        made = boot_decoded(seen, last, hidden, weights, 'objectives.feature.decoder', heads[1])
        for number, (row, column, cut) in enumerate(patches(image, side)):
            if hidden[row, column]:
                around = hidden[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2].sum().item()
                factor = 1 + around / 9 if weigh else 1
                of_pixels.append(factor * ((pixels[number] - by_channel(cut)) ** 2).mean())
                error = standard(made[number]) - standard(features[number])
                of_features.append(factor * (error**2).mean())
    return torch.stack(of_pixels).mean(), torch.stack(of_features).mean()
