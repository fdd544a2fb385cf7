"""A run is not gone on with inside an epoch whose samples came in another order."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mstkit.datasets import EpochSampler
from mstkit.engine.checkpoints.data_order import check_order, data_order
from mstkit.engine.checkpoints.starting_checkpoint import StartingCheckpoint
from mstkit.errors import UsageError

from . import running


class InStreams(EpochSampler):
    """A sampler whose order depends on a number of streams; None for one whose order does not."""

    def __init__(self, streams: int | None) -> None:
        super().__init__(range(40))
        self.streams = streams

    def layout(self) -> dict[str, int] | None:
        return super().layout() if self.streams is None else dict(samples=40, streams=self.streams)


class Loader:
    """Ten batches, in an order of so many streams; None for an order that depends on nothing."""

    def __init__(self, streams: int | None) -> None:
        self.batch_sampler = SimpleNamespace(sampler=InStreams(streams))

    def __len__(self) -> int:
        return 10


def start(iteration: int, order: dict | None) -> StartingCheckpoint:
    return StartingCheckpoint(Path('x.pth'), dict(meta=dict(iter=iteration, data_order=order)), resume=True)


def test_another_order_is_refused_inside_an_epoch_only():
    two = dict(samples=40, streams=2)
    assert data_order(Loader(2)) == two and data_order(Loader(None)) is None
    check_order(Loader(2), start(13, two))
    check_order(Loader(3), start(20, two))
    check_order(Loader(None), start(13, None))
    with pytest.raises(UsageError, match=r'inside an epoch.*\(streams 2 and now 3\)'):
        check_order(Loader(3), start(13, two))
    for loader, saved in ((Loader(2), None), (Loader(None), two)):
        with pytest.raises(UsageError, match='inside an epoch in which the samples had another order'):
            check_order(loader, start(13, saved))


def test_checkpoints_say_the_order(tmp_path):
    running.train(tmp_path, train_cfg__max_epochs=1)
    assert torch.load(tmp_path / 'epoch_1.pth', weights_only=True)['meta']['data_order'] is None
