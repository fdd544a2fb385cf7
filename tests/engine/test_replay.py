"""A run whose numbers are no longer finite leaves a file, and repeating its steps says where the first came from."""

from __future__ import annotations

import json
import re
import sys

import pytest
import torch
from mmengine.config import Config
from torch import nn

from mstkit.commands import replay_command
from mstkit.engine.hooks.step_dissection import tensors_in
from mstkit.engine.launch.launch import build_runner
from mstkit.engine.launch.replay import replay
from mstkit.errors import UsageError, WorkStopped
from mstkit.registry import MODELS

from . import running, toy


class Amplifier(nn.Module):
    """Multiplies by a number that is the model's."""

    factor = 1.0

    def forward(self, inputs):
        return inputs * self.factor * self.factor


class Mask(nn.Module):
    """Infinite by design, in every step."""

    def forward(self, inputs):
        return inputs.masked_fill(torch.arange(6) == 5, float('-inf'))


@MODELS.register_module(force=True)
class ToyOverflow(toy.ToyDistiller):
    """Overflows in the forward pass of an iteration, or in the gradient of one."""

    def __init__(self, forward_at: int = -1, backward_at: int = -1, **settings) -> None:
        super().__init__(**settings)
        self.forward_at, self.backward_at = forward_at, backward_at
        self.amplifier, self.mask = Amplifier(), Mask()
        self.register_buffer('never', torch.full((2,), float('-inf')))  # as masks of attention are

    def forward(self, inputs, index, mode='tensor'):
        assert self.progress is not None
        self.amplifier.factor = 1e30 if self.progress.iteration == self.forward_at else 1.0
        hidden = self.mask(inputs).isinf()  # as before a softmax
        losses = super().forward(self.amplifier(inputs.masked_fill(hidden, 0.0)), index, mode)
        if self.progress.iteration == self.backward_at:
            root = self.last_layer.weight.sum() * 0
            losses['loss'] = losses['loss'] + root.sqrt().nan_to_num(0.0)  # finite, with an infinite slope
        return losses


def diverged(folder, message, **changes):
    """A run that stops; its record."""
    runner = running.build(folder, **changes)
    with pytest.raises(WorkStopped, match=message):
        runner.train()
    return folder / 'non_finite.json'


@pytest.mark.parametrize('saved', [True, False])
def test_the_module_that_overflows_is_named(tmp_path, saved):
    changes = dict(model=dict(type='ToyOverflow', forward_at=6))
    if not saved:
        changes['default_hooks__checkpoint'] = dict(type='AtomicCheckpointHook', interval=5)
    file = diverged(tmp_path, rf'at iteration 7 \(epoch 2\).*"mstkit replay {tmp_path}/non_finite.json"', **changes)
    record = json.loads(file.read_text())
    assert (record['iteration'], record['processes']) == (7, 1)
    before = sorted(path.name for path in tmp_path.rglob('*'))
    said = replay(file)
    assert said.startswith(f'from {tmp_path / "epoch_1.pth"}:' if saved else 'from the start of the run:')
    assert 'iteration 7 (epoch 2), in the order of the computation:' in said
    lines = said.splitlines()
    assert re.search(r'forward: amplifier \(Amplifier\) makes it of finite inputs of at most \d', lines[1])
    assert 'losses: loss = ' in said and 'weights before' not in said
    assert sorted(path.name for path in tmp_path.rglob('*')) == before  # nothing is written


def test_a_gradient_that_overflows_is_named(tmp_path):
    file = diverged(
        tmp_path,
        'loss = nan, at iteration 8 ',  # the step before has spoiled the weights
        model=dict(type='ToyOverflow', backward_at=6),
        optim_wrapper__clip_norm=None,
    )
    said = replay(file)
    assert 'iteration 7 (epoch 2)' in said and 'backward: the gradient of last_layer.weight is the first' in said
    assert 'forward' not in said and 'weights after the step' in said


def test_what_does_not_come_again_is_said(tmp_path, capsys, monkeypatch):
    file = diverged(tmp_path, 'no longer finite', model=dict(type='ToyOverflow', forward_at=6))
    record = json.loads(file.read_text())
    record['config'] = record['config'].replace('forward_at=6', 'forward_at=-1')
    file.write_text(json.dumps(record))
    monkeypatch.setattr(sys, 'argv', ['mstkit replay', str(file)])
    replay_command.main()
    assert 'all numbers are finite up to iteration 7, where the run had loss = nan' in capsys.readouterr().out


def test_mistakes_are_answered(tmp_path):
    other = tmp_path / 'other.json'
    other.write_text('{}')
    with pytest.raises(UsageError, match='is no record of a run that diverged'):
        replay(other)
    with pytest.raises(UsageError, match='cannot be read as the record'):
        replay(tmp_path / 'nothing')
    file = diverged(tmp_path / 'run', 'no longer finite', model=dict(type='ToyOverflow', forward_at=6))
    record = json.loads(file.read_text())
    other.write_text(json.dumps({**record, 'processes': 2}))
    with pytest.raises(UsageError, match=r'a run with 2 processes.*mstkit torchrun 2 replay'):
        replay(other)
    other.write_text(json.dumps({**record, 'checkpoint': '/nowhere/epoch_1.pth'}))
    with pytest.raises(UsageError, match=r'/nowhere/epoch_1\.pth, from which the steps are repeated, is gone'):
        replay(other)
    moved = tmp_path / 'moved'
    (tmp_path / 'run').rename(moved)
    assert replay(moved / 'non_finite.json').startswith(f'from {moved / "epoch_1.pth"}:')


def test_a_run_that_is_well_leaves_nothing(tmp_path):
    build_runner(Config(dict(toy.settings(), work_dir=str(tmp_path), experiment_name='well'))).train()
    assert not (tmp_path / 'non_finite.json').exists()


def test_tensors_are_found_in_anything():
    one, two = torch.zeros(1), torch.ones(2)
    assert [*tensors_in([one, {'a': (two, 'text')}, None])] == [one, two]
