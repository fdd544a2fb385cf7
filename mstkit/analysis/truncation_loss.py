"""Networks without their last blocks, to measure the loss of accuracy."""

from __future__ import annotations

from typing import Any, NamedTuple

STAGE3 = 2  # index of Swin's third stage, which has most of its blocks


class Truncation(NamedTuple):
    """A network without some of its blocks.

    Attributes:
        network: the shortened network.
        dropped: the number of dropped blocks.
        where: 'end'; or 'stage3': the last blocks of Swin's third stage are dropped, and the fourth stage is kept.
    """

    network: Any
    dropped: int
    where: str


def truncations(network: Any, most: int | None = None) -> list[Truncation]:
    """A network unchanged, and without its last 1, 2, … blocks; at least one block is kept.

    The paper (Xie et al., arXiv 2205.13543) does not say which blocks of a Swin it drops, so both variants are
    returned: dropped from the end across stages, and dropped from stage 3 with stage 4 kept.

    Args:
        network: has ``blocks``, each with its ``stage``, and ``without_last(count, where)``.
        most: maximum number of dropped blocks.
    """

    readings = {'end': len(network.blocks) - 1}
    if network.layout == 'swin':
        readings['stage3'] = sum(block.stage == STAGE3 for block in network.blocks) - 1
    found = [Truncation(network, 0, 'end')]
    for where, limit in readings.items():
        counts = range(1, 1 + (limit if most is None else min(limit, most)))
        found += [Truncation(network.without_last(count, where), count, where) for count in counts]
    return found
