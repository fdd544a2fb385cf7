"""What is lost when a network's last blocks are dropped."""

from __future__ import annotations

from typing import Any, NamedTuple

STAGE3 = 2  # index of Swin's third stage, which has most of its blocks


class Truncation(NamedTuple):
    """A network without some blocks.

    Attributes:
        network: that one.
        dropped: how many blocks it has lost.
        where: 'end', or 'stage3': they were the last of Swin's third stage, and the fourth stage was kept.
    """

    network: Any
    dropped: int
    where: str


def truncations(network: Any, most: int | None = None) -> list[Truncation]:
    """A network as it is, and without its last 1, 2, … blocks, as long as one is left.

    The paper (Xie et al., arXiv 2205.13543) does not say which blocks of a Swin it drops, so both readings are given:
    from the end, through the stages, and from stage 3 with stage 4 kept.

    Args:
        network: has ``blocks``, each with its ``stage``, and ``without_last(count, where)``.
        most: drop no more than so many blocks.
    """
    readings = {'end': len(network.blocks) - 1}
    if network.layout == 'swin':
        readings['stage3'] = sum(block.stage == STAGE3 for block in network.blocks) - 1
    found = [Truncation(network, 0, 'end')]
    for where, limit in readings.items():
        counts = range(1, 1 + (limit if most is None else min(limit, most)))
        found += [Truncation(network.without_last(count, where), count, where) for count in counts]
    return found
