"""Checks that all processes of a run have the same data; otherwise they wait for each other until a timeout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine import dist
from torch.utils.data import DataLoader

from mstkit.errors import UsageError


def check_same_loader(what: str, loader: DataLoader) -> None:
    """Checks that a data loader has the same numbers of images and batches in all processes; every process calls it.

    Raises:
        UsageError: on every process, if the numbers differ.
    """
    check_same(what, dict(images=len(loader.dataset), batches=len(loader)))  # type: ignore[arg-type]


def check_same(what: str, facts: dict[str, Any]) -> None:
    """Checks that values are the same in all processes; every process calls it.

    Args:
        what: the subject of the error message, such as ``the training set``.
        facts: this process's values by name.

    Raises:
        UsageError: on every process, with the first name that differs and the value on each rank.
    """
    if dist.get_world_size() == 1:
        return
    of_all: Sequence[dict[str, Any]] = dist.all_gather_object(facts)
    for name in facts:
        values = [of_rank[name] for of_rank in of_all]
        if any(value != values[0] for value in values):
            raise UsageError(
                f'{what} is not the same in all processes, {name}: {_by_value(values)}. They would wait for each other '
                'forever, or train on the wrong images: give every machine the same files.'
            )


def _by_value(values: Sequence[Any]) -> str:
    """Lists values with their ranks: ``6 on rank 0, 5 on ranks 1 and 2``."""
    said = []
    for value in dict.fromkeys(values):
        ranks = [str(rank) for rank, other in enumerate(values) if other == value]
        where = f'rank {ranks[0]}' if len(ranks) == 1 else f'ranks {", ".join(ranks[:-1])} and {ranks[-1]}'
        said.append(f'{value} on {where}')
    return ', '.join(said)
