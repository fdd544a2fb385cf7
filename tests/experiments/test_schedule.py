"""Cells that fail, that are finished, that are interrupted: with a program in the place of the training."""

from __future__ import annotations

import os
import re
import shlex
import signal
import threading
import time
from pathlib import Path

import pytest

from mstkit.errors import UsageError
from mstkit.experiments import FAILED, FINISHED, STOPPED, run_jobs
from mstkit.experiments.ablation import Plan
from mstkit.experiments.ablation_report import write_report
from mstkit.experiments.training_process import Training, duration

from .toy_ablation import make, program

LR = 'optim_wrapper.optimizer.lr'


def run(plan: Plan, tmp_path: Path, jobs: int = 1) -> list[str]:
    """Runs a plan; what was said."""
    said: list[str] = []
    plan.write_configs()
    run_jobs(plan.cells, program(tmp_path), jobs, lambda: write_report(plan, 20), said.append)
    return said


def calls(plan: Plan) -> list[int]:
    """How often each cell was started."""
    files = [cell.folder / 'calls.txt' for cell in plan.cells]
    return [len(file.read_text().splitlines()) if file.exists() else 0 for file in files]


def test_failing_cells_do_not_stop_the_others(tmp_path):
    plan = make(tmp_path, f'{LR}=2,3,0.5')
    said = run(plan, tmp_path)
    records = [cell.record() for cell in plan.cells]
    assert [record['status'] for record in records] == [FAILED, FAILED, FINISHED]
    assert [record['exit_code'] for record in records] == [2, 1, 0]
    assert [record['error'] for record in records] == ['lr 2 is too high', 'RuntimeError: out of | patience', None]
    assert said[0] == f'[1/3] lr=2, seed 0: starts in {plan.cells[0].folder}'
    failed = r'\[1/3\] lr=2, seed 0: failed after \S+ \w+ \(exit code 2\): lr 2 is too high; 1 of 3 done'
    assert re.fullmatch(failed, said[1]), 'no estimate yet'
    assert 'epoch 2 of 2, k-NN student 30.0, teacher 30.0' in said[-2]
    assert said[-1].startswith('[3/3] lr=0.5, seed 0: finished in ')
    assert [cell.state() for cell in plan.cells] == ['failed, runs again'] * 2 + ['finished']
    assert '| lr=0.5 | 30.0 | 30.0 (2) | 30.0 | 30.0 (2) | 10.0 |' in (tmp_path / 'work' / 'ablation.md').read_text()


def test_what_is_to_go_is_known_of_kinds_that_have_been_seen(tmp_path, monkeypatch):
    plan = make(tmp_path, f'{LR}=0.5,0.4', seeds=(0, 1))
    monkeypatch.setattr(type(plan.cells[0]), 'pace', property(lambda cell: cell.name.split(',')[0]))
    said = [line.partition(' done')[2] for line in run(plan, tmp_path) if ' of 4 done' in line]
    about = r', about \d+ s to go'
    assert re.fullmatch(about + ', and 2 of which none of their kind is finished yet', said[0])
    assert re.fullmatch(about, said[1]) and re.fullmatch(about, said[2]) and said[3] == ''


def test_finished_cells_are_not_run_again_and_failed_ones_are(tmp_path):
    plan = make(tmp_path, f'{LR}=2,0.5', seeds=(0, 1))
    run(plan, tmp_path)
    seconds = plan.cells[1].record()['seconds']
    said = run(plan, tmp_path, jobs=3)
    assert said[0] == '2 of 4 cells are finished already'
    assert calls(plan) == [2, 1, 2, 1]
    assert plan.cells[1].record()['seconds'] == seconds
    more = make(tmp_path, f'{LR}=0.5,1', seeds=(0, 1, 2))
    run(more, tmp_path, jobs=2)
    assert calls(more) == [1] * 6
    assert more.cells[1].record()['jobs'] == 2


def test_a_signal_stops_the_trainings_and_the_next_run_resumes(tmp_path):
    plan = make(tmp_path, f'{LR}=4,2,5')
    checkpoint = plan.cells[0].folder / 'epoch_1.pth'

    def interrupt() -> None:
        deadline = time.monotonic() + 300
        while not checkpoint.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGTERM)  # a background job ignores SIGINT

    before = signal.getsignal(signal.SIGTERM)
    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        run(plan, tmp_path)
    assert signal.getsignal(signal.SIGTERM) is before
    assert calls(plan) == [1, 0, 0]
    record = plan.cells[0].record()
    assert record['status'] == STOPPED
    assert record['seconds'] > 0
    assert [cell.state() for cell in plan.cells] == ['interrupted, goes on', 'not started', 'not started']
    said = run(plan, tmp_path)
    assert said[0].startswith('[1/3] lr=4, seed 0: resumes in ')
    lines = (plan.cells[0].folder / 'calls.txt').read_text().splitlines()
    assert ['--resume' in line for line in lines] == [False, True]
    after = plan.cells[0].record()
    assert after['status'] == FINISHED
    assert after['seconds'] > record['seconds'], 'the time of both'
    assert '--resume' not in shlex.split(after['command']), 'the command that trains it from the start'


def test_a_cell_belongs_to_one_training(tmp_path):
    """Also when the process that started it is gone: the training itself holds the lock."""
    plan = make(tmp_path, f'{LR}=4')
    plan.write_configs()
    (cell,) = plan.cells
    training = Training(cell, program(tmp_path), {}, 1)
    assert cell.state() == 'being trained'
    with pytest.raises(UsageError, match='another process'):
        Training(cell, program(tmp_path), {}, 1)
    with pytest.raises(UsageError, match='another process'):
        run(plan, tmp_path)
    training.stop()
    assert cell.state() == 'interrupted, goes on'
    assert training.process.returncode == -signal.SIGKILL


def test_a_killed_training_says_so(tmp_path):
    plan = make(tmp_path, f'{LR}=4')
    plan.write_configs()
    training = Training(plan.cells[0], program(tmp_path), {}, 1)
    assert training.end() is None
    training.process.kill()
    training.process.wait()
    assert training.end() == FAILED
    assert plan.cells[0].record()['error'] == 'killed by SIGKILL (out of memory?)'


def test_a_run_without_accuracies_has_failed(tmp_path):
    plan = make(tmp_path, f'{LR}=0.5')
    plan.write_configs()
    silent = tmp_path / 'silent.py'
    silent.write_text('print("nothing to do")')
    run_jobs(plan.cells, silent, 1, lambda: None, lambda line: None)
    assert plan.cells[0].record()['error'] == 'it ended without having measured k-NN accuracy'


def test_durations():
    assert [duration(seconds) for seconds in (0.4, 99, 150, 5400, 90000)] == [
        '0 s',
        '99 s',
        '2 min',
        '90 min',
        '25.0 h',
    ]
