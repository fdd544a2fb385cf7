"""Patch tokens of one or several blocks, from which linear probes learn, and the settings that these share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from mstkit.errors import UsageError
from mstkit.evaluation.evaluated_network import FrozenNetwork
from mstkit.utils.checks import check_count, check_list, check_number, check_size
from mstkit.utils.progress_bar import track


def check_probe(
    where: str,
    layers: int,
    size: int | None,
    rates: Sequence[float],
    epochs: int,
    batch_size: int,
    held_out: float,
    most: int,
) -> None:
    """Raises UsageError for a setting out of range; ``where`` is the beginning of their names."""
    check_count(f'{where}layers', layers, 1, 1000)
    if size is not None:
        check_size(f'{where}size', size)
    check_list(f'{where}rates', rates, check_number, 1e-8, 1e3)
    check_count(f'{where}epochs', epochs, 1, 10**6)
    check_count(f'{where}batch_size', batch_size, 1, 10**6)
    check_number(f'{where}held_out', held_out, above=0, below=1)
    check_count(f'{where}most', most, 2)


def check_layers(where: str, layers: int, network: FrozenNetwork) -> None:
    """Raises UsageError for more layers than the network has."""
    if layers > len(network.blocks):
        raise UsageError(f'{where}layers is {layers}, but {network.name} has {len(network.blocks)} blocks.')


def drawn_rows(count: int, most: int, seed: int) -> list[int]:
    """Rows of ``count``, in their order; of more than ``most`` so many, drawn by the seed."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:most].sort().values.tolist()


@torch.no_grad()
def layer_tokens(
    network: FrozenNetwork,
    images: Tensor,
    layers: int,
    where: str,
    device: torch.device | str = 'cpu',
    batch: int = 64,
    pooled: bool = True,
) -> Tensor:
    """Patch tokens of equally spaced blocks, the last one among them.

    Args:
        network: on ``device``.
        images: (M, 3, H, W) uint8, RGB.
        layers: number of blocks.
        where: the beginning of the name of that setting, for messages.
        device: to compute on.
        batch: images in a forward pass.
        pooled: whether the pooled token stands behind each patch token.

    Returns:
        (M, C, h, w) float16 on ``device``; the channels of the blocks one after the other.

    Raises:
        UsageError: more layers than the network has, or tokens that float16 does not hold.
    """
    check_layers(where, layers, network)
    blocks = len(network.blocks)
    chosen = [(number + 1) * blocks // layers - 1 for number in range(layers)]
    encode = network.layers(blocks - chosen[0])
    mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (network.mean, network.std))
    found = []
    for part in track(images.split(batch), -(-len(images) // batch), f'tokens of {network.name}'):
        outputs = encode((part.to(device).float() - mean) / std)
        outputs = [outputs[index - chosen[0]] for index in chosen]
        grid = max((one.grid for one in outputs), key=lambda sides: sides[0])
        maps = []
        for one in outputs:
            kinds = (
                [one.patch_tokens, one.pooled[:, None].expand_as(one.patch_tokens)] if pooled else [one.patch_tokens]
            )
            maps.append(torch.cat(kinds, dim=2).transpose(1, 2).unflatten(2, one.grid))
        same = [functional.interpolate(one.float(), grid, mode='bilinear', align_corners=False) for one in maps]
        found.append(torch.cat(same, dim=1).half())
    tokens = torch.cat(found)
    if not bool(tokens.isfinite().all()):
        raise UsageError(f'the patch tokens of {network.name} are not finite, or too large for half precision.')
    return tokens
