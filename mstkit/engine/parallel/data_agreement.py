"""Whether the processes of a run see the same data: where they do not, they wait for each other until a timeout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine import dist
from torch.utils.data import DataLoader

from mstkit.errors import UsageError


def check_same_loader(what: str, loader: DataLoader) -> None:
    """Compares a data loader over all processes; every process calls it.

    Raises:
        UsageError: on all of them, where they differ in images or in batches.
    """
    check_same(what, dict(images=len(loader.dataset), batches=len(loader)))  # type: ignore[arg-type]


def check_same(what: str, facts: dict[str, Any]) -> None:
    """Compares facts over all processes; every process calls it.

    Args:
        what: what they are about, to begin a sentence with.
        facts: name and value, of this process.

    Raises:
        UsageError: on all of them; names the first fact that differs, with the value of each process.
    """
    if dist.get_world_size() == 1:
        return
    of_all: Sequence[dict[str, Any]] = dist.all_gather_object(facts)
    for name in facts:
        values = [of_rank[name] for of_rank in of_all]
        if any(value != values[0] for value in values):
            raise UsageError(
                f'{what} is not the same in all processes, {name}: {_by_value(values)}. They would wait for each other '
                'for ever, or read other images than they should: give every machine the same files.'
            )


def _by_value(values: Sequence[Any]) -> str:
    """``6 on rank 0, 5 on ranks 1 and 2``."""
    said = []
    for value in dict.fromkeys(values):
        ranks = [str(rank) for rank, other in enumerate(values) if other == value]
        where = f'rank {ranks[0]}' if len(ranks) == 1 else f'ranks {", ".join(ranks[:-1])} and {ranks[-1]}'
        said.append(f'{value} on {where}')
    return ', '.join(said)
