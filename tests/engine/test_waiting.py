"""A step does not wait for the device; what the log needs is read when a line of it is due."""

from __future__ import annotations

import json
import traceback
from collections import Counter
from pathlib import Path

import mmengine
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import mstkit
from mstkit.engine.hooks import NonFiniteLossError, NonFiniteLossHook, step_values
from tests.engine import same_numbers
from tests.engine.hooks.fakes import FakeDistillation, make_runner

from . import running

OURS = tuple(str(Path(package.__file__).parent) for package in (mstkit, mmengine))
READS = ('aten::nonzero', 'aten::_local_scalar_dense', 'aten::masked_select', 'aten::equal', 'aten::_unique2')
INDEXED = ('aten::index', 'aten::index_put', 'aten::index_put_', 'aten::_index_put_impl_')


class Waits(TorchDispatchMode):
    """Counts operations of ours, or of mmengine's, whose result or shape the host would have to wait for on a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function._schema.name
        by_mask = name in INDEXED and any(part is not None and part.dtype == torch.bool for part in args[1])
        if name in READS or by_mask:
            frames = [frame for frame in traceback.extract_stack() if frame.filename.startswith(OURS)]
            if frames:
                self.found[f'{name} in {Path(frames[-1].filename).name}: {str(frames[-1].line).split("  #")[0]}'] += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize('case', same_numbers.CASES)
def test_a_step_waits_for_nothing_but_the_number_of_hidden_patches(case, monkeypatch):
    without_drops = same_numbers.small(case)
    without_drops.model.backbone.drop_path_rate = 0.0  # on a CPU the images that are dropped are looked for
    monkeypatch.setattr(same_numbers, 'small', lambda case: without_drops)
    monkeypatch.setattr(same_numbers, 'STEPS', 3)  # a step that may wait, and two like all others
    waits = Waits()

    def before_step(step, model):
        if step == 1:  # a loaded MoBY asks once how far its teacher is
            waits.__enter__()

    try:
        same_numbers.trained(case, before_step)
    finally:
        waits.__exit__(None, None, None)
    expected = {}
    if 'patch_head' in without_drops.model and without_drops.model.patch_head:
        line = 'hidden = expand_mask(mask, grid).flatten().nonzero().squeeze(1)'
        expected = {f'aten::nonzero in masked_vit.py: {line}': same_numbers.STEPS - 1}
    assert waits.found == expected


def test_the_count_would_be_seen():
    with Waits() as waits:
        mstkit.models.heads.centered_head.F.log_softmax(torch.zeros(2), dim=0)
        assert not waits.found
        mstkit.evaluation.effective_rank(torch.randn(8, 4))
    assert waits.found


@pytest.fixture
def as_on_a_device(monkeypatch) -> list[int]:
    """Values are not free to read; how many iterations each reading brought over."""
    monkeypatch.setattr(step_values.StepValues, 'free_to_read', False)
    readings: list[int] = []
    original = step_values.StepValues.read

    def read(self):
        steps = original(self)
        if steps:
            readings.append(len(steps))
        return steps

    monkeypatch.setattr(step_values.StepValues, 'read', read)
    return readings


def scalars(folder: Path) -> list[dict]:
    """The lines of the log, without times."""
    (path,) = folder.glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{name: value for name, value in line.items() if 'time' not in name} for line in lines]


def run(folder: Path, info: str, interval: int, save: int = 100):
    """Three epochs of four iterations."""
    hooks = dict(
        runtime_info=dict(type=info),
        logger=dict(type='LoggerHook', interval=interval, ignore_last=False),
        checkpoint=dict(type='AtomicCheckpointHook', interval=save, by_epoch=False, max_keep_ckpts=-1),
        param_scheduler=dict(type='StepParamSchedulerHook'),
        non_finite=None,  # it reads too
    )
    return running.train(folder, default_hooks=hooks)


@pytest.mark.parametrize(('interval', 'readings'), [(3, [3, 1] * 3), (50, [4] * 3), (1, [1] * 12)])
def test_the_log_is_mmengines(tmp_path, as_on_a_device, interval, readings):
    theirs = run(tmp_path / 'theirs', 'RuntimeInfoHook', interval)
    ours = run(tmp_path / 'ours', 'StepInfoHook', interval)
    found = scalars(tmp_path / 'ours')
    assert found == scalars(tmp_path / 'theirs') and all('loss' in line for line in found)
    assert as_on_a_device == readings
    for name, history in theirs.message_hub.log_scalars.items():
        if 'time' not in name:
            assert ours.message_hub.log_scalars[name].data[0].tolist() == history.data[0].tolist(), name


def test_a_checkpoint_inside_an_epoch_has_the_whole_history(tmp_path, as_on_a_device):
    run(tmp_path, 'StepInfoHook', 50, save=5)
    for path, steps in (('iter_5.pth', 5), ('iter_10.pth', 10)):
        hub = torch.load(tmp_path / path, weights_only=True)['message_hub']
        assert len(hub['log_scalars']['train/loss']['values']) == steps


def test_a_loss_that_broke_long_ago_is_named_by_its_iteration(tmp_path, as_on_a_device):
    model = FakeDistillation()
    model.break_at = 5
    runner = make_runner(tmp_path, [dict(type='NonFiniteLossHook')], epochs=3, model=model)
    with pytest.raises(NonFiniteLossError, match=r'loss_ce = nan, at iteration 5 \(epoch 2\)'):
        runner.train()
    assert runner.iter == 5, 'seen at the end of the epoch, one iteration later'
    assert [path.name for path in tmp_path.glob('*.pth')] == ['epoch_1.pth']
    assert as_on_a_device == [3, 3]


def test_a_rank_that_saves_alone_waits_for_no_other(tmp_path, as_on_a_device, monkeypatch):
    model = FakeDistillation()
    hook = NonFiniteLossHook()
    runner = make_runner(tmp_path, [hook], epochs=1, model=model)
    together: list[int] = []
    monkeypatch.setattr('mmengine.dist.get_world_size', lambda: 2)
    monkeypatch.setattr('mmengine.dist.all_reduce', lambda data, op: together.append(len(data)))
    for iteration, loss in enumerate((1.0, 2.0)):
        hook.after_train_iter(runner, iteration, outputs=dict(loss=torch.tensor(loss)))
        hook.before_save_checkpoint(runner, dict(state_dict={}))
    assert not together, 'the other ranks save nothing, so they do not come'
    hook.after_train_iter(runner, 2, outputs=dict(loss=torch.tensor(3.0)))
    assert together == [3], 'all of them when the epoch ends'


def test_nothing_is_saved_between_a_broken_loss_and_the_log(tmp_path, as_on_a_device):
    model = FakeDistillation()
    model.break_at = 1
    hooks = [dict(type='NonFiniteLossHook'), dict(type='CheckpointHook', interval=2, by_epoch=False)]
    runner = make_runner(tmp_path, hooks, epochs=1, model=model)
    with pytest.raises(NonFiniteLossError, match='at iteration 1 '):
        runner.train()
    assert not list(tmp_path.glob('*.pth'))
