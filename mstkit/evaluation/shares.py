"""What each rank does of a data set, and all of it in file order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from mmengine import dist
from torch import Tensor
from torch.utils.data import Sampler

GATHER_ROWS = 16384


class ShareSampler(Sampler[int]):
    """The images of one rank: every ``world_size``-th in file order, without shuffling.

    Args:
        size: number of images over all ranks.
        rank, world_size: of this process.
        equal: gives all ranks the same number of images, the last of them the first images once more where there are
            too few. Ranks then run as many batches, which a network that is sharded over them (FSDP) waits for in each.
            :func:`in_file_order` counts each image once.
    """

    def __init__(self, size: int, rank: int = 0, world_size: int = 1, equal: bool = False) -> None:
        self.indices: Sequence[int] = range(rank, size, world_size)
        if equal and size:
            self.indices = [index % size for index in range(rank, -(-size // world_size) * world_size, world_size)]

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)


def in_file_order(rows: Tensor, indices: Tensor, size: int, device: torch.device | str) -> Tensor:
    """Gathers rows of all ranks and puts each at its image's index; in pieces, to bound the device's memory.

    Args:
        rows: (n, ...) of this rank.
        indices: (n,) image of each row; of equal rows of one image, one is kept.
        size: number of images over all ranks.
        device: for the communication.

    Returns:
        (size, ...) on the CPU.
    """
    result = rows.new_zeros((size, *rows.shape[1:]))
    filled = torch.zeros(size, dtype=torch.bool)
    if dist.get_world_size() == 1:
        result[indices], filled[indices] = rows, True
    else:
        longest = max(dist.all_gather_object(len(rows)))
        for start in range(0, longest, GATHER_ROWS):
            count = min(GATHER_ROWS, longest - start)
            # Every rank has to send the same number of rows; the index -1 marks padding.
            part, own_indices = rows.new_zeros((count, *rows.shape[1:])), torch.full((count,), -1)
            mine = rows[start : start + count]
            part[: len(mine)], own_indices[: len(mine)] = mine, indices[start : start + count]
            for their_rows, their_indices in zip(
                dist.all_gather(part.to(device)), dist.all_gather(own_indices.to(device)), strict=True
            ):
                kept = their_indices.cpu() >= 0
                positions = their_indices.cpu()[kept]
                result[positions], filled[positions] = their_rows.cpu()[kept], True
    if not filled.all():
        raise RuntimeError(f'{int((~filled).sum())} of {size} images are in the share of no rank; the loaders differ.')
    return result
