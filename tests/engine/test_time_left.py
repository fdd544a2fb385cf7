"""How long a training still takes is estimated from its newest steps and from the ends of its epochs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from mmengine.logging import MessageHub
from mmengine.runner import EpochBasedTrainLoop

from mstkit.engine.screen import time_left_hook
from mstkit.engine.screen.time_left_hook import STEPS, TimeLeftHook, usual_seconds

from . import running

LENGTH, EPOCHS = 4, 5


@pytest.mark.parametrize(
    ('seconds', 'usual'),
    [
        ([2.0], 2.0),
        ([1.0, 3.0], 2.0),
        ([1.0] * STEPS, 1.0),
        ([1.0] * 50 + [300.0] + [1.0] * 49, 1.0),  # the machine was suspended
        ([1.0, 1.0, 1.0, 1.0, 6.0] * 20, 2.0),  # the loader waits for its workers
        ([0.5] * 30 + [1.0] * 70, 1.0),  # another program has begun
    ],
)
def test_a_usual_step(seconds, usual):
    assert usual_seconds(seconds) == pytest.approx(usual)


@pytest.fixture
def clock(monkeypatch) -> SimpleNamespace:
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(time_left_hook, 'time', SimpleNamespace(perf_counter=lambda: now.seconds))
    return now


def estimates(clock, step, end) -> list[float]:
    """What is said in each step; ``step`` and ``end`` give the seconds of a step and of the end of an epoch."""
    loop = EpochBasedTrainLoop.__new__(EpochBasedTrainLoop)
    vars(loop).update(_epoch=0, _max_epochs=EPOCHS)
    hub = MessageHub(f'time_left_{id(clock)}')
    runner: Any = SimpleNamespace(train_loop=loop, message_hub=hub, max_iters=LENGTH * EPOCHS, iter=0)
    hook, said, waited = TimeLeftHook(), [], 0.0
    for epoch in range(EPOCHS):
        vars(loop)['_epoch'] = epoch
        for batch in range(LENGTH):
            hook.before_train_iter(runner, batch)
            seconds = step(runner.iter)
            clock.seconds += seconds
            hub.update_scalar('train/time', seconds + (waited if batch == 0 else 0))  # as mmengine's timer counts it
            hook.after_train_iter(runner, batch)
            said.append(hub.get_info('eta'))
            runner.iter += 1
        waited = end(epoch)
        clock.seconds += waited
    return said


def test_the_ends_of_epochs_count_as_soon_as_one_is_known(clock):
    said = estimates(clock, step=lambda step: 2.0, end=lambda epoch: 10.0)
    assert said[:LENGTH] == [2.0 * left for left in (19, 18, 17, 16)]
    assert said[LENGTH:] == [2.0 * left + 10 * (EPOCHS - epoch) for epoch in range(1, 5) for left in steps_left(epoch)]


def steps_left(epoch: int) -> list[int]:
    """How many steps are left after each step of an epoch."""
    return [LENGTH * EPOCHS - 1 - step for step in range(LENGTH * epoch, LENGTH * (epoch + 1))]


def test_what_comes_every_other_epoch_counts_half(clock):
    said = estimates(clock, step=lambda step: 1.0, end=lambda epoch: 8.0 * (epoch % 2))
    assert said[-1] == pytest.approx(0 + (0 + 8 + 0 + 8) / 4)


def test_a_slow_beginning_is_forgotten(clock):
    said = estimates(clock, step=lambda step: 60.0 if step < 3 else 1.0, end=lambda epoch: 0.0)
    assert said[2] == 60.0 * 17
    assert said[9] == 10.0  # the mean of the run would say 187


def test_every_training_has_it(tmp_path):
    runner = running.train(tmp_path / 'work', log_level='INFO')
    assert sum(isinstance(hook, TimeLeftHook) for hook in runner.hooks) == 1
    names = [type(hook).__name__ for hook in runner.hooks]
    assert names.index('IterTimerHook') < names.index('TimeLeftHook') < names.index('LoggerHook')
