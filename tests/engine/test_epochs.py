"""``--epochs`` moves the run's length and its schedules together."""

from __future__ import annotations

import pytest
from mmengine.config import Config

from mstkit.engine.epochs import set_epochs
from mstkit.errors import UsageError


def config() -> Config:
    return Config(
        dict(
            train_cfg=dict(type='ResumableEpochLoop', max_epochs=100),
            param_scheduler=[
                dict(type='LinearLR', by_epoch=True, begin=0, end=10),
                dict(type='CosineAnnealingLR', by_epoch=True, begin=10, end=100),
                dict(type='CosineAnnealingWeightDecay', by_epoch=True, begin=0, end=100),
            ],
        )
    )


def spans(changed: Config) -> list[tuple[int, int]]:
    return [(s['begin'], s['end']) for s in changed.param_scheduler]


@pytest.mark.parametrize(
    ('epochs', 'expected'),
    [
        (300, [(0, 10), (10, 300), (0, 300)]),  # a longer run keeps its warm-up
        (100, [(0, 10), (10, 100), (0, 100)]),
        (20, [(0, 2), (2, 20), (0, 20)]),
        (2, [(0, 1), (1, 2), (0, 2)]),
        (1, [(0, 1), (0, 1)]),  # nothing is left between warm-up and end
    ],
)
def test_schedules_end_with_the_run(epochs, expected):
    changed = config()
    lines = set_epochs(changed, epochs)
    assert changed.train_cfg.max_epochs == epochs
    assert spans(changed) == expected
    assert lines[0].startswith(f'epochs: 100 -> {epochs}')


def test_mistakes_are_told():
    with pytest.raises(UsageError, match='not 0'):
        set_epochs(config(), 0)
    with pytest.raises(UsageError, match='max_epochs'):
        set_epochs(Config(dict(train_cfg=dict(max_iters=5))), 3)
