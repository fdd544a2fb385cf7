"""A run that is interrupted and resumed ends like one that is not, to the bit."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook

from mstkit.errors import UsageError
from tests import warm
from tests.programs import run_program

from . import running

ROOT = Path(__file__).parents[2]
MID_EPOCH = dict(type='AtomicCheckpointHook', by_epoch=False, interval=1, max_keep_ckpts=-1)


class Stop(Exception):
    """Interrupts a run from inside."""


class StopAfter(Hook):
    priority = 'LOWEST'

    def __init__(self, iterations: int) -> None:
        self.iterations = iterations

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if runner.iter + 1 == self.iterations:
            raise Stop


def interrupt(work_dir: Path, iterations: int, **changes) -> None:
    runner = running.build(work_dir, **changes)
    runner.register_hook(StopAfter(iterations))
    with pytest.raises(Stop):
        runner.train()


@pytest.mark.parametrize('jitter', [False, True])
@pytest.mark.parametrize('stop', [1, 4, 6, 8, 11])
def test_resumed_inside_an_epoch(tmp_path, stop, jitter):
    """Also with transforms that draw from the global generators."""
    changes = dict(
        default_hooks__checkpoint=MID_EPOCH, train_dataloader__dataset=dict(type='ToyVectors', length=16, jitter=jitter)
    )
    whole = running.train(tmp_path / 'whole', **changes)
    interrupt(tmp_path / 'cut', stop, **changes)
    rest = running.train(tmp_path / 'cut', resume=True, **changes)
    assert rest.model.seen == whole.model.seen[stop:]
    assert running.same_state(tmp_path / 'whole' / 'iter_12.pth', tmp_path / 'cut' / 'iter_12.pth')


@pytest.mark.parametrize('stop', [3, 5, 9])
def test_resumed_inside_an_epoch_while_accumulating(tmp_path, stop):
    """The checkpoint waits for the optimizer's step: gradients are not saved."""
    changes = dict(
        default_hooks__checkpoint=MID_EPOCH,
        train_dataloader__dataset=dict(type='ToyVectors', length=12),
        optim_wrapper__accumulative_counts=2,
    )
    running.train(tmp_path / 'whole', **changes)
    interrupt(tmp_path / 'cut', stop, **changes)
    assert sorted(int(path.stem[5:]) for path in (tmp_path / 'cut').glob('iter_*.pth')) == [
        i for i in (2, 3, 5, 6, 8, 9) if i <= stop
    ]
    running.train(tmp_path / 'cut', resume=True, **changes)
    assert running.same_state(tmp_path / 'whole' / 'iter_9.pth', tmp_path / 'cut' / 'iter_9.pth')


@pytest.mark.parametrize('stop', [5, 8, 10])
def test_resumed_at_an_epoch(tmp_path, stop):
    running.train(tmp_path / 'whole')
    interrupt(tmp_path / 'cut', stop)
    rest = running.train(tmp_path / 'cut', resume=True)
    done = 4 if stop < 9 else 8
    assert len(rest.model.seen) == 12 - done
    assert running.same_state(tmp_path / 'whole' / 'epoch_3.pth', tmp_path / 'cut' / 'epoch_3.pth')


def test_a_sampler_that_cannot_skip_still_gives_the_right_batches(tmp_path):
    changes = dict(
        default_hooks__checkpoint=MID_EPOCH,
        train_dataloader__sampler=dict(type='DefaultSampler', shuffle=True),
    )
    whole = running.train(tmp_path / 'whole', **changes)
    interrupt(tmp_path / 'cut', 6, **changes)
    rest = running.train(tmp_path / 'cut', resume=True, **changes)
    assert [batch for _, batch in rest.model.seen] == [batch for _, batch in whole.model.seen[6:]]
    assert running.same_state(tmp_path / 'whole' / 'iter_12.pth', tmp_path / 'cut' / 'iter_12.pth')


def test_nothing_to_resume_starts_from_scratch_and_says_so(tmp_path, monkeypatch):
    running.train(tmp_path / 'whole')
    runner = running.build(tmp_path / 'new', resume=True)
    said = []
    monkeypatch.setattr(runner.logger, 'info', lambda message, *_: said.append(message))
    runner.train()
    assert any('nothing to resume' in line and 'from scratch' in line for line in said)
    assert running.same_state(tmp_path / 'whole' / 'epoch_3.pth', tmp_path / 'new' / 'epoch_3.pth')


def test_torn_checkpoint_is_passed_over(tmp_path):
    running.train(tmp_path / 'whole')
    interrupt(tmp_path / 'cut', 10)
    newest = tmp_path / 'cut' / 'epoch_2.pth'
    newest.write_bytes(newest.read_bytes()[:1000])
    rest = running.train(tmp_path / 'cut', resume=True)
    assert len(rest.model.seen) == 8
    assert running.same_state(tmp_path / 'whole' / 'epoch_3.pth', tmp_path / 'cut' / 'epoch_3.pth')


def toy_config(folder: Path) -> Path:
    """A config file of the toy, as a user would write one."""
    from . import toy

    settings = toy.settings(default_hooks__checkpoint=dict(type='AtomicCheckpointHook', max_keep_ckpts=1))
    settings['custom_hooks'].append(dict(type='KillHook'))
    settings['custom_imports'] = dict(imports=['tests.engine.toy'])
    path = folder / 'toy.py'
    path.write_text(''.join(f'{name} = {value!r}\n' for name, value in settings.items()))
    return path


def run_tool(config: Path, work_dir: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [warm.python(), ROOT / 'tools' / 'train.py', config, '--work-dir', work_dir, *arguments],
        cwd=ROOT,
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_killed_while_training_and_while_saving(tmp_path):
    """SIGKILL in the second epoch, then again in the middle of writing its checkpoint, then to the end."""
    config = toy_config(tmp_path)
    whole = running.train(tmp_path / 'whole')
    work_dir = tmp_path / 'killed'
    first = run_tool(config, work_dir, KILL_AFTER='6')
    assert first.returncode == -9, first.stderr
    second = run_tool(config, work_dir, '--resume', KILL_WHILE_SAVING='8')
    assert second.returncode == -9, second.stderr
    assert [path.name for path in work_dir.glob('*.pth')] == ['epoch_1.pth']
    assert len(list(work_dir.glob('.epoch_2.pth.*.partial'))) == 1
    third = run_program('tools/train.py', config, '--work-dir', work_dir, '--resume')
    assert third.returncode == 0, third.stderr
    assert not list(work_dir.glob('.*.partial'))
    assert len(whole.model.seen) == 12
    assert running.same_state(tmp_path / 'whole' / 'epoch_3.pth', work_dir / 'epoch_3.pth')


def test_checkpoint_of_another_model_is_refused_before_anything(tmp_path):
    running.train(tmp_path / 'one')
    with pytest.raises(UsageError, match=r'another model.*body\.0\.weight \(8, 6\) instead of \(16, 6\)'):
        running.build(tmp_path / 'two', model__width=16, resume=True, load_from=str(tmp_path / 'one' / 'epoch_3.pth'))
    with pytest.raises(UsageError, match='does not fit'):
        running.build(tmp_path / 'two', model__width=16, load_from=str(tmp_path / 'one' / 'epoch_3.pth'))
    with pytest.raises(UsageError, match=r'missing \(body\.2'):
        running.build(
            tmp_path / 'two', model__batch_norm=True, resume=True, load_from=str(tmp_path / 'one' / 'epoch_3.pth')
        )
    assert not (tmp_path / 'two').exists()


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(randomness=dict(seed=5)), r'seed 0.*asks for 5.*--seed 0'),
        (dict(train_dataloader__batch_size=8), r'iters_per_epoch=4, this run has 2'),
        (dict(optim_wrapper__accumulative_counts=2), r'accumulative_counts=1, this run has 2'),
        (dict(optim_wrapper__paramwise_cfg=None), r'parameter groups'),
    ],
)
def test_checkpoint_of_another_run_is_refused(tmp_path, changes, message):
    running.train(tmp_path / 'one')
    if 'optim_wrapper__paramwise_cfg' in changes:
        changes = dict(changes, optim_wrapper__optimizer=dict(type='AdamW', lr=0.05))
    with pytest.raises(UsageError, match=message):
        running.build(tmp_path / 'two', resume=True, load_from=str(tmp_path / 'one' / 'epoch_3.pth'), **changes)
    assert not (tmp_path / 'two').exists()


def test_weights_alone_cannot_be_resumed(tmp_path):
    running.train(tmp_path / 'one')
    weights = {'state_dict': torch.load(tmp_path / 'one' / 'epoch_3.pth', weights_only=True)['state_dict']}
    torch.save(weights, tmp_path / 'weights.pth')
    with pytest.raises(UsageError, match='load_from='):
        running.build(tmp_path / 'two', resume=True, load_from=str(tmp_path / 'weights.pth'))
    runner = running.train(tmp_path / 'two', load_from=str(tmp_path / 'weights.pth'))
    assert len(runner.model.seen) == 12
