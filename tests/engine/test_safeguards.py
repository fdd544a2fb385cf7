"""What every training gets unasked: it stops where it diverges, and good checkpoints stay."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import CheckpointHook, Hook

from mstkit.engine.hooks import AtomicCheckpointHook, NonFiniteLossError, NonFiniteLossHook
from mstkit.engine.hooks.stop_signal_hook import StopSignalHook
from mstkit.engine.launch.launch import read_config
from mstkit.engine.runner.required_hooks import guard_training
from mstkit.registry import HOOKS, METRICS, MODELS

from . import running, toy
from .test_resume import ROOT

PRETRAINING = sorted(p for p in (ROOT / 'configs').rglob('*.py') if not {'_base_', 'downstream'} & set(p.parts))


@HOOKS.register_module(force=True)
class BreakWeights(Hook):
    """Makes one weight infinite after an iteration, under a loss that stays finite."""

    priority = 'LOWEST'

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if runner.iter + 1 == self.iteration:
            runner.model.teacher[0, 0] = float('inf')  # which the toy's loss never reads


@METRICS.register_module(force=True)
class Rising(BaseMetric):
    """Better every time, so that every validation has a best checkpoint to write."""

    count = 0

    def process(self, data_batch, data_samples) -> None:
        self.results.append(0)

    def compute_metrics(self, results) -> dict:
        Rising.count += 1
        return {'score': float(Rising.count)}


@MODELS.register_module(force=True)
class ToyWithMask(toy.ToyDistiller):
    """Has a buffer that is infinite by design, and logs a number that is not defined."""

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.register_buffer('scores_mask', torch.full((2,), float('-inf')))

    def forward(self, inputs, index, mode='tensor'):
        return {**super().forward(inputs, index, mode), 'accuracy': torch.tensor(float('nan'))}


def test_a_config_that_asks_for_nothing_is_guarded():
    named, others = guard_training(None, None)
    assert isinstance(named['non_finite'], NonFiniteLossHook)
    assert isinstance(named['checkpoint'], AtomicCheckpointHook) and named['checkpoint'].interval == 1
    assert [type(hook) for hook in others] == [StopSignalHook]


@pytest.mark.parametrize('kind', ['CheckpointHook', 'mmengine.CheckpointHook', CheckpointHook])
def test_mmengines_checkpoint_hook_becomes_ours(kind):
    named, _ = guard_training(dict(checkpoint=dict(type=kind, interval=3, by_epoch=False, max_keep_ckpts=1)), None)
    hook = named['checkpoint']
    assert isinstance(hook, AtomicCheckpointHook)
    assert (hook.interval, hook.by_epoch, hook.max_keep_ckpts) == (3, False, 1)


def test_what_is_switched_off_stays_off():
    named, _ = guard_training(dict(non_finite=None, checkpoint=None), None)
    assert not any(isinstance(hook, NonFiniteLossHook) for hook in named.values())
    assert named['checkpoint'] is None


def test_a_guard_of_the_config_is_not_doubled():
    named, others = guard_training(None, [dict(type='NonFiniteLossHook')])
    assert sum(isinstance(hook, NonFiniteLossHook) for hook in (*named.values(), *others)) == 1


@pytest.mark.parametrize('path', PRETRAINING, ids=lambda path: path.stem)
def test_every_pretraining_is_guarded(path):
    config = read_config(path)
    named, others = guard_training(config.default_hooks, config.custom_hooks)
    assert sum(isinstance(hook, NonFiniteLossHook) for hook in (*named.values(), *others)) == 1
    assert isinstance(named['checkpoint'], AtomicCheckpointHook)


def finite(path: Path) -> bool:
    state = torch.load(path, weights_only=True)['state_dict']
    return all(bool(torch.isfinite(value).all()) for value in state.values())


def test_a_run_of_any_config_stops_at_weights_that_are_not_finite(tmp_path):
    """In the second of three epochs, with room for one checkpoint only."""
    with pytest.raises(NonFiniteLossError, match=r'first teacher, at iteration 8 \(epoch 2\).*epoch_1\.pth'):
        running.train(
            tmp_path,
            default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=1)),
            custom_hooks=[dict(type='ProgressHook'), dict(type='BreakWeights', iteration=6)],
        )
    assert [path.name for path in tmp_path.glob('*.pth')] == ['epoch_1.pth']
    assert finite(tmp_path / 'epoch_1.pth')


def test_switched_off_it_goes_on(tmp_path):
    running.train(
        tmp_path,
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', max_keep_ckpts=1), non_finite=None),
        custom_hooks=[dict(type='ProgressHook'), dict(type='BreakWeights', iteration=6)],
    )
    assert not finite(tmp_path / 'epoch_3.pth')


def test_what_is_infinite_by_design_is_no_divergence(tmp_path):
    runner = running.train(tmp_path, model__type='ToyWithMask')
    assert any(isinstance(hook, NonFiniteLossHook) for hook in runner.hooks)
    assert (tmp_path / 'epoch_3.pth').is_file()


def best(tmp_path: Path, **changes) -> None:
    loader = dict(toy.settings()['train_dataloader'], sampler=dict(type='DefaultSampler', shuffle=False))
    config = toy.settings(
        train_cfg=dict(by_epoch=True, max_epochs=3, val_interval=1),
        default_hooks__checkpoint=dict(
            type='CheckpointHook', interval=9, save_last=False, save_best='score', rule='greater'
        ),
        **changes,
    )
    config.update(val_dataloader=loader, val_cfg=dict(), val_evaluator=dict(type='Rising'))
    name = f'best-{tmp_path.name}'
    running.build_runner(Config(dict(config, work_dir=str(tmp_path), experiment_name=name))).train()


@pytest.fixture
def a_model_that_validates(monkeypatch):
    monkeypatch.setattr(toy.ToyDistiller, 'val_step', lambda self, data: [0], raising=False)


def test_the_best_checkpoint_is_replaced_after_the_better_one_is_there(tmp_path, monkeypatch, a_model_that_validates):
    seen: list[list[str]] = []

    def remove(path: str) -> None:
        seen.append(sorted(p.name for p in tmp_path.glob('*.pth')))
        Path(path).unlink()

    monkeypatch.setattr('mstkit.engine.hooks.checkpoint_hook._remove', remove)
    best(tmp_path)
    assert seen == [
        ['best_score_epoch_1.pth', 'best_score_epoch_2.pth'],
        ['best_score_epoch_2.pth', 'best_score_epoch_3.pth'],
    ]
    assert [path.name for path in tmp_path.glob('*.pth')] == ['best_score_epoch_3.pth']


def test_the_best_checkpoint_outlives_a_divergence(tmp_path, a_model_that_validates):
    hooks = [dict(type='ProgressHook'), dict(type='BreakWeights', iteration=8)]
    with pytest.raises(NonFiniteLossError, match='first teacher'):
        best(tmp_path, custom_hooks=hooks)
    assert [path.name for path in tmp_path.glob('*.pth')] == ['best_score_epoch_1.pth']
    assert finite(tmp_path / 'best_score_epoch_1.pth')
