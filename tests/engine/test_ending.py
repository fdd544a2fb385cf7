"""A training that stops before its end says where and why, in one sentence and in its log."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
from mmengine.hooks import Hook

from mstkit.errors import DiskError, UsageError
from mstkit.report.recorded_events import read_events
from mstkit.utils import files
from tests.test_files import FullDisk

from . import running
from .hooks.fakes import log_text


class Raise(Hook):
    """Raises in iteration 6, of the second epoch."""

    priority = 'LOWEST'

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if runner.iter == 5:
            raise self.error


@pytest.mark.parametrize(
    ('error', 'said'),
    [
        (KeyError('x'), "KeyError: 'x'"),
        (UsageError('too many images cannot be read'), 'too many images cannot be read'),
        (KeyboardInterrupt(), 'interrupted from the keyboard'),
        (RuntimeError('first line\nmore'), 'RuntimeError: first line'),
    ],
)
def test_the_log_says_where_and_why(tmp_path, error, said):
    runner = running.build(tmp_path)
    runner.register_hook(Raise(error))
    with pytest.raises(type(error)) as caught:
        runner.train()
    assert caught.value is error
    (line,) = [line for line in log_text(runner).splitlines() if 'the run stopped' in line]
    assert ' - ERROR - ' in line
    assert line.endswith(f'the run stopped at iteration 5 (epoch 2): {said}')
    stop = read_events(tmp_path / 'events.jsonl').stop
    assert stop is not None
    assert (stop.reason, stop.iteration, stop.epoch) == (said, 5, 2)
    assert stop.interrupted == isinstance(error, KeyboardInterrupt)


def test_a_disk_that_fills_up_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    """torch alone says "unexpected pos 64 vs 0"."""
    runner = running.build(tmp_path)

    class Fill(Hook):
        def before_train_epoch(self, runner) -> None:
            if runner.epoch == 1:
                FullDisk(monkeypatch, takes=200)

    runner.register_hook(Fill())
    with pytest.raises(DiskError) as caught:
        runner.train()
    said = str(caught.value)
    assert f'{tmp_path / "epoch_2.pth"} cannot be written: the disk is full (it needs about ' in said
    assert f'The last good checkpoint is {tmp_path / "epoch_1.pth"}; --resume goes on from there.' in said
    assert sorted(path.name for path in tmp_path.glob('*.pth')) == ['epoch_1.pth']
    assert not list(tmp_path.rglob('*.partial'))
    monkeypatch.undo()
    monkeypatch.setattr('mstkit.engine.checkpoints.resumable_runner.collect_env', dict)
    assert running.train(tmp_path, resume=True).iter == 12


def test_a_full_disk_under_somebody_elses_file_too(tmp_path):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / 'scalars.json'))
    runner = running.build(tmp_path)
    runner.register_hook(Raise(full))
    with pytest.raises(DiskError, match=r'scalars\.json cannot be written: the disk is full \(.* free\).*epoch_1\.pth'):
        runner.train()


def test_a_work_dir_that_is_taken_away_is_a_sentence(tmp_path):
    work_dir = tmp_path / 'run'
    runner = running.build(work_dir)

    class Rename(Hook):
        def before_train_epoch(self, runner) -> None:
            if runner.epoch == 1:
                work_dir.rename(tmp_path / 'elsewhere')

    runner.register_hook(Rename())
    with pytest.raises(DiskError) as caught:
        runner.train()
    said = str(caught.value)
    assert f'cannot be used: {work_dir}' in said and 'is not there any more. Make the work dir as it was.' in said
    shutil.rmtree(work_dir, ignore_errors=True)  # of what was written by its whole path
    (tmp_path / 'elsewhere').rename(work_dir)
    assert running.train(work_dir, resume=True).iter == 12


def test_files_elsewhere_are_no_matter_of_the_work_dir(tmp_path):
    runner = running.build(tmp_path / 'run')
    runner.register_hook(Raise(FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(tmp_path / 'a.jpg'))))
    with pytest.raises(FileNotFoundError):
        runner.train()


def test_what_a_killed_run_left_is_removed_everywhere(tmp_path):
    left = [tmp_path / '.epoch_9.pth.x_1.partial', tmp_path / 'panels' / '.epoch_009.png.x_1.partial']
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b'half')
    running.train(tmp_path)
    assert not any(map(Path.exists, left))
    assert files.remove_leftovers(tmp_path) == []
