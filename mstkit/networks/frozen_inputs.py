"""Images of a method as a frozen network wants them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mstkit.networks.network import Network


def renormalized(images: Tensor, network: Network, normalization: tuple[Tensor, Tensor] | None) -> Tensor:
    """Images (B, 3, H, W), normalized as the network wants them.

    Args:
        images: as the method normalized them.
        network: the network.
        normalization: the method's mean and standard deviation of the channels on the scale 0..255, (3,) or (1,) both;
            None if the images are not normalized.
    """
    mean, std = (torch.tensor(values) for values in (network.mean, network.std))
    of_method = normalization or (torch.zeros(1), torch.ones(1))
    if torch.equal(of_method[0].expand(3), mean) and torch.equal(of_method[1].expand(3), std):
        return images
    scale, shift = of_method[1] / std, (of_method[0] - mean) / std
    return images * scale.to(images).view(-1, 1, 1) + shift.to(images).view(-1, 1, 1)


def resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Images or maps (B, C, H, W), bilinear and antialiased, at another size (height, width)."""
    if maps.shape[-2:] == torch.Size(size):
        return maps
    return F.interpolate(maps.float(), size, mode='bilinear', antialias=True)


def fingerprint_of(network: Network) -> Tensor:
    """The network's fingerprint as bytes, (32,) uint8, for a checkpoint."""
    return torch.tensor(list(bytes.fromhex(network.fingerprint)), dtype=torch.uint8)
