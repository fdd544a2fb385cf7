"""Schedules: DINO's closed form, and their unit under accumulation."""

from __future__ import annotations

import math

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook

from . import running


class Values(Hook):
    """Keeps lr and weight decay of the decayed and the not decayed parameters, per iteration."""

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.rows: list[tuple[float, float, float]] = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        model, groups = runner.model, runner.optim_wrapper.optimizer.param_groups
        of = {id(group['params'][0]): group for group in groups}
        decayed, bias = of[id(model.body[0].weight)], of[id(model.body[0].bias)]
        self.rows.append((decayed['lr'], decayed['weight_decay'], bias['weight_decay']))


def dino_cosine(base, final, steps):
    return [final + 0.5 * (base - final) * (1 + math.cos(math.pi * i / steps)) for i in range(steps)]


def test_config_gives_dinos_schedules(tmp_path):
    schedule = Config.fromfile('configs/_base_/schedules/adamw_cosine_100e.py')
    runner = running.build(
        tmp_path,
        train_cfg=schedule.train_cfg,
        param_scheduler=schedule.param_scheduler,
        optim_wrapper=schedule.optim_wrapper,
        default_hooks__checkpoint=dict(type='AtomicCheckpointHook', interval=100),
    )
    values = Values()
    runner.register_hook(values)
    runner.train()
    per_epoch = 4
    warm, total = 10 * per_epoch, 100 * per_epoch
    lr = [5e-4 * i / (warm - 1) for i in range(warm)] + dino_cosine(5e-4, 1e-6, total - warm)
    decay = dino_cosine(0.04, 0.4, total)
    assert len(values.rows) == total
    assert [row[0] for row in values.rows] == pytest.approx(lr, rel=1e-6, abs=1e-12)
    assert [row[1] for row in values.rows] == pytest.approx(decay, rel=1e-6)
    assert {row[2] for row in values.rows} == {0.0}


@pytest.mark.parametrize('length', [16, 24])
def test_accumulation_equals_the_large_batch(tmp_path, length):
    """Batch 4 twice is batch 8 once: weights, teacher, schedules and steps."""
    common = dict(
        model__dropout=0.0,
        train_dataloader__dataset=dict(type='ToyVectors', length=length),
        optim_wrapper__optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=0.01),
    )
    large = running.train(tmp_path / 'large', train_dataloader__batch_size=8, **common)
    small = running.train(
        tmp_path / 'small', train_dataloader__batch_size=4, optim_wrapper__accumulative_counts=2, **common
    )
    assert large.model.steps == small.model.steps == 3 * length // 8
    for name in ('body.0.weight', 'last_layer.weight', 'teacher'):
        torch.testing.assert_close(
            large.model.state_dict()[name], small.model.state_dict()[name], rtol=1e-5, atol=1e-6, msg=name
        )
    assert not torch.equal(small.model.teacher, torch.zeros_like(small.model.teacher))
    for one, two in zip(large.param_schedulers, small.param_schedulers, strict=True):
        assert one.last_step == two.last_step and one.end == two.end
    lrs = [runner.optim_wrapper.optimizer.param_groups[0]['lr'] for runner in (large, small)]
    assert lrs[0] == pytest.approx(lrs[1])


def test_an_epoch_ends_with_a_step(tmp_path):
    """Three iterations with accumulation two: two steps per epoch, and the schedule knows."""
    runner = running.train(
        tmp_path, train_dataloader__dataset=dict(type='ToyVectors', length=12), optim_wrapper__accumulative_counts=2
    )
    assert runner.model.steps == 6
    assert [progress.step for progress, _ in runner.model.seen] == [0, 0, 1, 2, 2, 3, 4, 4, 5]
    assert runner.param_schedulers[0].end == 2 and runner.param_schedulers[1].end == 6


@pytest.mark.parametrize('enable, factor', [(False, 1.0), (True, 1.0 * 4 * 2 / 16)])
def test_lr_follows_the_global_batch_and_is_said(tmp_path, enable, factor, monkeypatch):
    runner = running.build(
        tmp_path, optim_wrapper__accumulative_counts=2, auto_scale_lr=dict(base_batch_size=16, enable=enable)
    )
    said = []
    monkeypatch.setattr(runner.logger, 'info', lambda message, *_: said.append(message))
    runner.train()
    line = next(message for message in said if message.startswith('global batch'))
    assert line.startswith('global batch 8 = 4 per device x 1 processes x 2 accumulated; lr ')
    assert f'lr {0.05 * factor:g} (' in line
    assert ('scaled from 0.05 at batch 16' in line) == enable
    assert runner.optim_wrapper.optimizer.param_groups[0]['initial_lr'] == pytest.approx(0.05 * factor)
