"""Networks without their last blocks, to measure what these contribute (arXiv:2205.13543)."""

from __future__ import annotations

import copy
import itertools
from typing import TypeVar

from torch import nn

from mstkit.errors import UsageError
from mstkit.networks.backbone_structure import BackboneStructure
from mstkit.networks.network_blocks import PassThrough
from mstkit.networks.structure_reading import read_structure

PLACES = ('end', 'stage3')
M = TypeVar('M', bound=nn.Module)


def sharing_copy(module: M) -> M:
    """A copy of a module that shares parameters and buffers with the original."""
    shared = {id(tensor): tensor for tensor in itertools.chain(module.parameters(), module.buffers())}
    return copy.deepcopy(module, shared)


def drop_blocks(backbone: M, count: int, where: str = 'end') -> M:
    """A copy of a backbone without some of its blocks, sharing its weights.

    Args:
        backbone: is not changed.
        count: number of blocks to drop, from 0.
        where: ``'end'``, the last blocks of the network, or ``'stage3'``, the last blocks of a Swin's third stage,
            keeping the fourth.

    Raises:
        UsageError: an unknown ``where``, 'stage3' for a network without one, or too many blocks.
    """
    shortened = sharing_copy(backbone)
    structure = read_structure(shortened)
    candidates = [block for block in structure.blocks if where == 'end' or block.stage == 2]
    most = len(candidates) - (where == 'end')
    _check(structure, count, where, most)
    dropped = {id(block.module) for block in candidates[len(candidates) - count :]}
    for blocks in structure.stages:
        for place, module in enumerate(blocks):
            if id(module) in dropped:
                blocks[place] = PassThrough()
    return shortened


def _check(structure: BackboneStructure, count: int, where: str, most: int) -> None:
    name = type(structure.backbone).__name__
    if where not in PLACES:
        raise UsageError(f'blocks are dropped from {" or ".join(map(repr, PLACES))}, not from {where!r}.')
    if where == 'stage3' and (structure.layout != 'swin' or len(structure.stages) < 3):
        raise UsageError(f"{name} has no third stage to drop blocks from; use where='end'.")
    if not isinstance(count, int) or not 0 <= count <= most:
        place = (
            'in its third stage' if where == 'stage3' else f'in all, of which at least {len(structure.blocks) - most}'
        )
        kept = f'{most} {place}' if where == 'stage3' else f'{len(structure.blocks)} {place} has to stay'
        raise UsageError(f'{count!r} blocks cannot be dropped: {name} has {kept}.')
