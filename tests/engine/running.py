"""Runs toy trainings."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import torch
from mmengine.config import Config

from mstkit.engine.launch.launch import build_runner
from mstkit.engine.runner.mst_runner import MSTRunner

from . import toy

_COUNT = count()


def build(work_dir: Path | str, **changes) -> MSTRunner:
    """A toy runner; ``a__b=value`` changes ``a.b`` of its config."""
    # Two runs of the same second would share mmengine's message hub.
    name = f'toy{next(_COUNT)}'
    return build_runner(Config(dict(toy.settings(**changes), work_dir=str(work_dir), experiment_name=name)))


def train(work_dir: Path | str, **changes) -> MSTRunner:
    """A trained toy."""
    runner = build(work_dir, **changes)
    runner.train()
    return runner


def same(first, second) -> bool:
    """Whether two nested structures of tensors and plain data are equal to the bit."""
    if isinstance(first, torch.Tensor):
        return isinstance(second, torch.Tensor) and torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


def same_state(first: Path | str, second: Path | str) -> bool:
    """Whether two checkpoints hold the same model, optimizer and schedules."""
    one, two = (torch.load(path, weights_only=True) for path in (first, second))
    return all(same(one[part], two[part]) for part in ('state_dict', 'optimizer', 'param_schedulers'))
