from __future__ import annotations

from types import SimpleNamespace

from mstkit.analysis import truncations


class Stack:
    """Blocks by their stages."""

    def __init__(self, layout: str, stages: list[int], lost: tuple = ()) -> None:
        self.layout, self.lost = layout, lost
        self.blocks = tuple(SimpleNamespace(index=index, stage=stage) for index, stage in enumerate(stages))

    def without_last(self, count: int, where: str = 'end') -> Stack:
        return Stack(self.layout, [], (count, where))


def read(network: Stack, most: int | None = None) -> list[tuple[int, str, tuple]]:
    return [(found.dropped, found.where, found.network.lost) for found in truncations(network, most)]


def test_vit_loses_blocks_from_the_end_down_to_one():
    assert read(Stack('vit', [0] * 4)) == [(0, 'end', ())] + [(n, 'end', (n, 'end')) for n in (1, 2, 3)]
    assert [found[0] for found in read(Stack('vit', [0] * 4), most=2)] == [0, 1, 2]
    assert read(Stack('vit', [0])) == [(0, 'end', ())]


def test_swin_is_read_both_ways():
    found = read(Stack('swin', [0, 0, 1, 1, 2, 2, 2, 3, 3]), most=4)
    assert found == [(0, 'end', ())] + [(n, 'end', (n, 'end')) for n in (1, 2, 3, 4)] + [
        (n, 'stage3', (n, 'stage3')) for n in (1, 2)
    ]
