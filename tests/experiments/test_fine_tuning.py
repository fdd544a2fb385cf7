"""Runs that fail, that are finished, that are interrupted: with a program in the place of the training."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from mstkit.experiments import FAILED, FINISHED, STOPPED, job_schedule, run_jobs
from mstkit.experiments.transfer import FineTuning
from mstkit.experiments.transfer_report import write_report

from .toy_transfer import log, make_plan, make_run, program


def train(runs: list[FineTuning], folder: Path, jobs: int = 1) -> list[str]:
    """Trains them with the toy program; what was said."""
    said: list[str] = []
    plan = make_plan(folder, runs)
    run_jobs(runs, program(folder), jobs, lambda: write_report(plan), said.append)
    return said


def calls(run: FineTuning) -> list[list[str]]:
    """With what the program was called."""
    file = run.folder / 'calls.txt'
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def interrupt_when(path: Path, text: str = '') -> None:
    """Sends this process a signal once a file is there."""

    def wait() -> None:
        deadline = time.monotonic() + 300
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)  # a background job ignores SIGINT

    threading.Thread(target=wait).start()


def test_failing_runs_are_written_down_and_the_others_go_on(tmp_path):
    runs = [make_run(tmp_path, 'classification', seed=seed) for seed in (2, 3, 5, 0)]
    said = train(runs, tmp_path)
    records = [run.record() for run in runs]
    assert [record['status'] for record in records] == [FAILED, FAILED, FAILED, FINISHED]
    assert [record['error'] for record in records] == [
        'the data set has no images',
        'RuntimeError: out of | patience',
        'it ended without having measured anything',
        None,
    ]
    assert said[0] == f'[1/4] classification, pre-trained, seed 2: starts in {runs[0].folder}'
    assert said[1].startswith('[1/4] classification, pre-trained, seed 2: failed after ')
    assert 'epoch 2 of 2: top-1 40.0' in '\n'.join(said)
    page = (tmp_path / 'transfer.md').read_text()
    assert '- classification, pre-trained, seed 3: RuntimeError: out of | patience' in page
    assert '| classification | top-1 | 40.0 | 1 of 4 |' in page


def test_finished_runs_are_not_run_again(tmp_path):
    runs = [make_run(tmp_path, 'classification', seed=seed) for seed in (0, 2)]
    train(runs, tmp_path)
    more = [*runs, make_run(tmp_path, 'classification', seed=1)]
    said = train(more, tmp_path, jobs=2)
    assert said[0] == '1 of 3 runs are finished already'
    assert [len(calls(run)) for run in more] == [1, 2, 1]
    assert '--resume' not in calls(runs[1])[1], 'it has no checkpoint'
    assert '| classification | top-1 | 40.5 ± 0.7 | 2 of 3 |' in (tmp_path / 'transfer.md').read_text()


def test_a_signal_leaves_a_state_that_goes_on(tmp_path):
    runs = [make_run(tmp_path, 'classification', seed=seed) for seed in (4, 0)]
    interrupt_when(runs[0].folder / 'epoch_1.pth')
    with pytest.raises(KeyboardInterrupt):
        train(runs, tmp_path)
    record = runs[0].record()
    assert record['status'] == STOPPED and record['seconds'] > 0
    assert [run.state() for run in runs] == ['interrupted, goes on', 'not started']
    said = train(runs, tmp_path)
    assert said[0].startswith('[1/2] classification, pre-trained, seed 4: resumes in ')
    assert ['--resume' in words for words in calls(runs[0])] == [False, True]
    after = runs[0].record()
    assert after['status'] == FINISHED and after['seconds'] > record['seconds'], 'the time of both'
    assert '--resume' not in after['command'], 'the command that trains it from the start'
    assert runs[0].curves() == {'top-1': {1: 24.0, 2: 44.0}}


def test_a_run_stopped_in_its_last_validation_is_measured_after_all(tmp_path):
    """mmengine saves first and measures then; resumed from its last checkpoint it would have nothing left to do."""
    (run,) = runs = [make_run(tmp_path, 'classification', seed=7)]
    interrupt_when(run.folder / 'epoch_2.pth')
    with pytest.raises(KeyboardInterrupt):
        train(runs, tmp_path)
    assert run.curves() == {'top-1': {1: 27.0}}
    train(runs, tmp_path)
    assert calls(run)[1][-2:] == ['--resume', str(run.folder / 'epoch_1.pth')]
    assert run.record()['status'] == FINISHED
    assert run.curves() == {'top-1': {1: 27.0, 2: 47.0}}


def test_where_a_run_goes_on_from(tmp_path):
    run = make_run(tmp_path, 'segmentation', length=500, unit='iteration')
    assert run.resume_arguments() == []
    log(run, (250, dict(mIoU=1.0)))
    (run.folder / 'iter_500.pth').touch()
    assert run.resume_arguments() == [], 'nothing before its end: once more from the start'
    (run.folder / 'iter_250.pth').touch()
    (run.folder / 'best_mIoU_iter_400.pth').touch()
    assert run.resume_arguments() == ['--resume', str(run.folder / 'iter_250.pth')]
    log(run, (250, dict(mIoU=1.0)), (500, dict(mIoU=2.0)))
    assert run.resume_arguments() == ['--resume']
    (run.folder / 'iter_500.pth').unlink()
    assert run.resume_arguments() == ['--resume']


def test_the_user_is_told_where_a_long_run_is(tmp_path, monkeypatch):
    monkeypatch.setattr(job_schedule, '_SILENCE', 0.5)
    (run,) = runs = [make_run(tmp_path, 'classification', seed=6)]
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line.removeprefix('[1/1] classification, pre-trained, seed 6: '))
        for name in ('iteration', 'measuring'):
            if name in line:
                (run.folder / name).touch()

    started = time.monotonic()
    run_jobs(runs, program(tmp_path), 1, lambda: None, say)
    assert 'epoch 1 of 2, iteration 25 of 50, 0:01:30 to go' in lines
    assert 'measuring, 5 of 13' in lines
    assert lines[-1].startswith('finished in ')
    assert len(lines) <= 6 + (time.monotonic() - started) / 0.5, 'a line in a while, and not one at every look'
