"""A checkpoint whose parts are damaged or do not fit is refused in a sentence; what was restored is said."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from mstkit.errors import UsageError

from . import running
from .test_resume import interrupt


@pytest.fixture(scope='module')
def whole(tmp_path_factory) -> dict[str, Any]:
    """A checkpoint after one epoch of four iterations."""
    folder = tmp_path_factory.mktemp('checks')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('mstkit.engine.checkpoints.resumable_runner.collect_env', dict)
        interrupt(folder, 6)
    return torch.load(folder / 'epoch_1.pth', weights_only=True)


def put(checkpoint: dict, path: str, value: Any) -> dict:
    """A copy with another value at a path; numbers are keys."""
    changed = copy.deepcopy(checkpoint)
    node: Any = changed
    *parents, last = (int(name) if name.isdigit() else name for name in path.split('/'))
    for name in parents:
        node = node[name]
    node[last] = value
    return changed


@pytest.mark.parametrize(
    'path, value, message',
    [
        ('optimizer/state', {}, 'optimizer state is empty at iteration 4'),
        ('optimizer', {}, 'no list of parameter groups'),
        ('optimizer', [1], 'no list of parameter groups'),
        ('optimizer/param_groups/0/params', ['x'], 'other parameter groups'),
        ('optimizer/state/0/exp_avg', torch.zeros(2, 2), r'state exp_avg of parameter 0 is \(2, 2\)'),
        ('optimizer/state/0/exp_avg', None, 'state exp_avg of parameter 0 is NoneType'),
        ('optimizer/state/0', {'step': torch.tensor(4.0)}, 'state of parameter 0 has no exp_avg'),
        ('optimizer/state/0', [1], 'optimizer state of parameter 0 is a list, not a dict'),
        ('optimizer/state/99', {'step': torch.tensor(4.0)}, 'an entry for parameter 99, which is in no group'),
        ('meta/iter', -4, 'its iter is -4'),
        ('meta/iter', True, 'its iter is True'),
        ('meta/iter', '4', "its iter is '4'"),
        ('meta/iter', 9, 'its iteration 9 does not lie in its epoch 1, which has the iterations 4 to 8'),
        ('meta/iter', 3, 'does not lie in its epoch 1'),
        ('meta/epoch', 2, 'does not lie in its epoch 2'),
        ('meta/epoch', 7, 'at epoch 7 and this run ends after 3: give --epochs 7'),
        ('message_hub', [], 'its message_hub is not a dict'),
        ('message_hub', {'log_scalars': [], 'runtime_info': {}}, 'its message_hub is not a dict'),
        ('message_hub/log_scalars/train', [1, 2], 'history of train'),
        ('param_schedulers', {}, 'not a list of states'),
        ('param_schedulers/0', {}, 'schedule 0 has no last_step'),
        ('param_schedulers', [], 'holds 0 schedules and this config has 2'),
        ('meta', [], 'it holds no epoch, iter'),
        ('meta/counter', [], None),
        ('meta/data', 'none', None),
        ('meta/cfg', 7, None),
        ('meta/run', 7, None),
        ('meta/data_order', 7, None),
    ],
)
def test_a_part_that_does_not_fit_is_refused(tmp_path, whole, path, value, message):
    """Before anything is written; what says nothing is passed over."""
    torch.save(put(whole, path, value), tmp_path / 'damaged.pth')
    settings = dict(resume=True, load_from=str(tmp_path / 'damaged.pth'))
    if message is None:
        running.build(tmp_path / 'run', **settings)
        return
    with pytest.raises(UsageError, match=rf'damaged\.pth cannot be resumed from: .*{message}.*load_from'):
        running.build(tmp_path / 'run', **settings)
    assert not (tmp_path / 'run').exists()


def test_parameters_without_a_gradient_yet_have_no_state(tmp_path, whole):
    """A last layer that is frozen for the first epoch, for example."""
    some = put(whole, 'optimizer/state', dict(list(whole['optimizer']['state'].items())[:1]))
    torch.save(some, tmp_path / 'some.pth')
    runner = running.build(tmp_path / 'run', resume=True, load_from=str(tmp_path / 'some.pth'))
    said = said_by(runner)
    runner.train()
    assert 'optimizer state of 1 of 3 parameters' in '\n'.join(said)


def test_an_optimizer_that_keeps_nothing_has_an_empty_state(tmp_path):
    sgd = dict(optim_wrapper__optimizer=dict(type='SGD', lr=0.01, weight_decay=0.0))
    running.train(tmp_path / 'whole', **sgd)
    interrupt(tmp_path / 'cut', 6, **sgd)
    running.train(tmp_path / 'cut', resume=True, **sgd)
    assert running.same_state(tmp_path / 'whole' / 'epoch_3.pth', tmp_path / 'cut' / 'epoch_3.pth')


def test_what_was_restored_is_said(tmp_path):
    interrupt(tmp_path, 6)
    runner = running.build(tmp_path, resume=True)
    said = said_by(runner)
    runner.train()
    path = Path(tmp_path) / 'epoch_1.pth'
    assert f'Loaded 5 tensors from {path}.' in said
    # The last layer is frozen in the first epoch.
    assert (
        f'resumed {path}: optimizer state of 2 of 3 parameters, 2 schedules, the log; epoch 1 of 3, iteration 4 of 12, '
        'lr now 0.05, weight_decay now 0.04'
    ) in said


def test_best_checkpoints_of_another_folder_are_not_named(tmp_path, whole):
    """mmengine removes the best checkpoint that the hub names when there is a better one."""
    torch.save(put(whole, 'message_hub/runtime_info/best_ckpt', '/elsewhere/best_1.pth'), tmp_path / 'one.pth')
    runner = running.train(tmp_path / 'run', resume=True, load_from=str(tmp_path / 'one.pth'))
    assert runner.message_hub.get_info('best_ckpt') == str(tmp_path / 'run' / 'best_1.pth')


def said_by(runner) -> list[str]:
    said: list[str] = []
    runner.logger.info = lambda message, *_: said.append(message)
    return said
