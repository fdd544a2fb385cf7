"""What the tests of downstream runs share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ..engine.conftest import _no_inventory, _no_waiting_for_the_disk
from . import running
from .running import TASKS, Trained

__all__ = ['_no_inventory', '_no_waiting_for_the_disk']


@pytest.fixture(scope='package')
def made(tmp_path_factory) -> dict[str, Any]:
    """What the tests of this folder have made so far; the fixtures below fill it, under the rules of every test."""
    return dict(folder=tmp_path_factory.mktemp('runs'))


@pytest.fixture
def scenes(made) -> Path:
    return running.write_scenes(made['folder'] / 'scenes')


@pytest.fixture
def pretrained(made) -> Path:
    if 'pretrained' not in made:
        made['pretrained'] = running.pretrain(made['folder'] / 'pretraining')
    return made['pretrained']


@pytest.fixture
def train(made, scenes, pretrained) -> Callable[[str], Trained]:
    """Trains the task of a name, once."""
    return lambda name: _trained(name, made, scenes, pretrained)


@pytest.fixture(params=TASKS)
def trained(request, train) -> Trained:
    return train(request.param)


def _trained(name: str, made: dict[str, Any], scenes: Path, pretrained: Path) -> Trained:
    if name not in made:
        work_dir = made['folder'] / name
        runner = running.train(running.load(TASKS[name], work_dir, scenes, pretrained=str(pretrained)))
        scalars = runner.message_hub.log_scalars
        numbers = {key.removeprefix('val/'): value.current() for key, value in scalars.items() if 'val/' in key}
        validated = {key: float(value) for key, value in numbers.items() if key not in ('time', 'data_time')}
        made[name] = Trained(TASKS[name], work_dir, running.losses_of(runner), validated)
    return made[name]
