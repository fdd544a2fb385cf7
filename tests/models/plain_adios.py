"""ADIOS written plainly from its formulas, in float64 and by two passes of their own, as a reference."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.models.plain_mim import Weights, depth_of, linear
from tests.models.plain_views import encoded

UNET, PROJECTOR = 'objectives.adversarial.occlusion', 'objectives.adversarial.projector'


def convolved(x: Tensor, weights: Weights, name: str) -> Tensor:
    """3×3 convolution, group norm of 8 groups, ReLU, of one image (C, H, W)."""
    made = F.conv2d(x[None], weights[f'{name}.0.weight'], padding=1)[0]
    rows = made.reshape(8, -1)
    centered = rows - rows.sum(dim=1, keepdim=True) / rows.shape[1]
    variance = (centered**2).sum(dim=1, keepdim=True) / rows.shape[1]
    normed = (centered / (variance + 1e-5).sqrt()).reshape(made.shape)
    made = normed * weights[f'{name}.1.weight'][:, None, None] + weights[f'{name}.1.bias'][:, None, None]
    return made * (made > 0)


def doubled(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)


def adios_masks(image: Tensor, weights: Weights) -> Tensor:
    """The masks (N, H, W) of one image whose lowest resolution is that of the linear layers."""
    blocks = depth_of(weights, f'{UNET}.down')
    x, kept = image, []
    for depth in range(blocks):
        x = convolved(x if depth == 0 else x[:, ::2, ::2], weights, f'{UNET}.down.{depth}')
        kept.append(x)
    flat = x.flatten()
    for layer in (1, 3, 5):
        flat = linear(flat, weights, f'{UNET}.whole.{layer}')
        flat = flat * (flat > 0)
    x = flat.reshape(x.shape)
    for depth in range(blocks):
        x = convolved(torch.cat([x, kept[-1 - depth]]), weights, f'{UNET}.up.{depth}')
        x = x if depth == blocks - 1 else doubled(x)
    kernel, bias = weights[f'{UNET}.to_masks.weight'][:, :, 0, 0], weights[f'{UNET}.to_masks.bias']
    logits = torch.einsum('nc,chw->nhw', kernel, x) + bias[:, None, None]
    shares = torch.exp(logits)
    return shares / shares.sum(dim=0)


def nt_xent(first: list[Tensor], second: list[Tensor], temperature: float) -> Tensor:
    """SimCLR's equation 1, over all 2·B queries one by one."""
    every, total = [*first, *second], torch.zeros((), dtype=torch.float64)
    for number, query in enumerate(every):
        powers = [torch.exp((query @ key) / (query.norm() * key.norm()) / temperature) for key in every]
        positive = powers[(number + len(first)) % len(every)]
        total = total - torch.log(positive / torch.stack([p for n, p in enumerate(powers) if n != number]).sum())
    return total / len(every)


def projected(image: Tensor, weights: Weights, side: int, heads: int, start: int) -> Tensor:
    hidden = linear(encoded(image, None, weights, side, heads, start)[0], weights, f'{PROJECTOR}.0')
    return linear(hidden * (hidden > 0), weights, f'{PROJECTOR}.2')


def adios_losses(
    whole: Tensor, occluded: Tensor, weights: Weights, side: int, heads: int, temperature: float, sparsity: float
) -> tuple[Tensor, Tensor, Tensor]:
    """What the encoder minimizes, what the occlusion network minimizes, and the penalty in it.

    The first has no gradient to the occlusion network, the second one to all weights, of which its own alone count.
    """
    start, losses = math.isqrt(weights['backbone.pos_embed'].shape[1] - 1), []
    masks = [adios_masks(image, weights) for image in occluded.double()]
    for fixed in (True, False):
        used = [one.detach() for one in masks] if fixed else masks
        first = [projected(image, weights, side, heads, start) for image in whole.double()]
        total = torch.zeros((), dtype=torch.float64)
        for n in range(len(used[0])):
            left = [image * (1 - mask[n]) for image, mask in zip(occluded.double(), used, strict=True)]
            total = total + nt_xent(first, [projected(one, weights, side, heads, start) for one in left], temperature)
        losses.append(total / len(used[0]))
    penalties = [1 / torch.sin(math.pi * plane.mean()) for one in masks for plane in one]
    penalty = torch.stack(penalties).mean()
    return losses[0], -losses[1] + sparsity * penalty, penalty
