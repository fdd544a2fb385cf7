"""SIGINT, SIGTERM and SIGHUP end a training after its step, with a checkpoint from which it goes on to the bit."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from torch.utils.data import DataLoader, Dataset

from mstkit.errors import StoppedBySignal
from mstkit.report.recorded_events import read_events
from mstkit.utils.noted_signals import ENDING, OutlivingWorker, noted_signals
from tests import warm

from . import running
from .test_resume import MID_EPOCH, ROOT, run_tool, toy_config


@pytest.fixture(autouse=True)
def nothing_is_ignored():
    """As if these tests did not run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def send(monkeypatch):
    """Sends signals in iterations of a toy: ``send(6, 'TERM')``."""

    def words(*pairs: tuple[int, str]) -> None:
        monkeypatch.setenv('SIGNALS', ' '.join(f'{iteration}:{name}:0' for iteration, name in pairs))

    yield words


WITH_HOOK = dict(custom_hooks=[dict(type='ProgressHook'), dict(type='KillHook')])


def stopped(work_dir: Path, **changes) -> str:
    before = [signal.getsignal(number) for number in ENDING]
    runner = running.build(work_dir, **WITH_HOOK, **changes)
    with pytest.raises(StoppedBySignal) as caught:
        runner.train()
    assert [signal.getsignal(number) for number in ENDING] == before
    return str(caught.value)


@pytest.fixture(scope='module')
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('whole')
    running.train(folder)
    return folder


@pytest.mark.parametrize(
    ('iteration', 'number'), [(2, ENDING[1]), *((6, number) for number in ENDING), (8, ENDING[1])], ids=str
)
def test_a_signal_leaves_a_checkpoint_inside_the_epoch(tmp_path, whole, send, number, iteration):
    send((iteration, number.name.removeprefix('SIG')))
    said = stopped(tmp_path / 'cut')
    file = tmp_path / 'cut' / f'iter_{iteration}.pth'
    epoch = (iteration + 3) // 4
    assert f'after iteration {iteration} (epoch {epoch}), with a checkpoint: --resume goes on from {file}.' in said
    stop = read_events(tmp_path / 'cut' / 'events.jsonl').stop
    assert stop is not None and stop.interrupted and stop.iteration == iteration - 1
    assert (number.name in stop.reason) != (number is signal.SIGINT)
    send()
    rest = running.train(tmp_path / 'cut', resume=True, **WITH_HOOK)
    assert len(rest.model.seen) == 12 - iteration
    assert not file.exists()  # replaced by the next one that was due
    assert running.same_state(whole / 'epoch_3.pth', tmp_path / 'cut' / 'epoch_3.pth')


def test_gradients_that_are_kept_are_used_first(tmp_path, send):
    changes = dict(
        train_dataloader__dataset=dict(type='ToyVectors', length=12),
        optim_wrapper__accumulative_counts=2,
    )
    send((4, 'TERM'))  # the first of two iterations
    assert 'after iteration 5' in stopped(tmp_path / 'cut', **changes)
    send()
    running.train(tmp_path / 'cut', resume=True, **WITH_HOOK, **changes)
    running.train(tmp_path / 'whole', **changes)
    assert running.same_state(tmp_path / 'whole' / 'epoch_3.pth', tmp_path / 'cut' / 'epoch_3.pth')


def test_a_run_that_saves_by_iterations_keeps_its_own_names(tmp_path, send):
    send((5, 'TERM'))
    stopped(tmp_path, default_hooks__checkpoint=dict(MID_EPOCH, interval=4, max_keep_ckpts=1))
    assert [path.name for path in tmp_path.glob('*.pth')] == ['iter_5.pth']


def test_where_nothing_is_saved_that_is_said(tmp_path, send):
    send((5, 'TERM'))
    assert stopped(tmp_path, default_hooks__checkpoint=None).endswith('. There is no checkpoint.')
    assert not list(tmp_path.glob('*.pth'))
    said = stopped(tmp_path, default_hooks__checkpoint=dict(type='CheckpointHook', interval=-1))
    assert said.endswith('. There is no checkpoint.')


def test_a_second_signal_ends_it_at_once(tmp_path, send, capfd):
    send((5, 'INT'), (5, 'INT'))
    said = stopped(tmp_path)
    assert said.startswith('interrupted from the keyboard at once, by a second signal. The last good checkpoint is ')
    assert said.endswith('epoch_1.pth; --resume goes on from there.')
    assert [path.name for path in tmp_path.glob('*.pth')] == ['epoch_1.pth']
    assert capfd.readouterr().err.count('SIGINT: the run stops after this step') == 1


@pytest.mark.parametrize('name', ['INT', 'TERM', 'HUP'])
def test_the_command_ends_as_a_shell_expects(tmp_path, name):
    done = run_tool(toy_config(tmp_path), tmp_path / 'run', SIGNALS=f'6:{name}:0')
    assert done.returncode == 128 + signal.Signals[f'SIG{name}']
    assert 'Traceback' not in done.stderr
    assert done.stderr.splitlines()[-1].startswith('error: ') and 'iter_6.pth' in done.stderr


def test_two_processes_stop_together_although_one_was_told(tmp_path, free_port):
    done = subprocess.run(
        ['bash', ROOT / 'tools' / 'dist_train.sh', toy_config(tmp_path), '2', '--work-dir', tmp_path / 'run'],
        cwd=ROOT,
        env={**os.environ, 'PYTHON': warm.python(), 'PORT': str(free_port), 'SIGNALS': '2:TERM:1'},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    assert 'Traceback' not in done.stderr
    assert 'stopped by SIGTERM after iteration 2 (epoch 1), with a checkpoint' in done.stderr
    assert [path.name for path in (tmp_path / 'run').glob('*.pth')] == ['iter_2.pth']


def test_what_is_ignored_stays_ignored_and_children_end():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with noted_signals() as received:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
            assert received == [signal.SIGTERM]
            child = os.fork()
            if child == 0:
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(60)
                os._exit(0)
            _, status = os.waitpid(child, 0)
            assert os.WTERMSIG(status) == signal.SIGTERM
            assert received == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGHUP, before)


def test_ctrl_c_in_any_command_is_a_word(tmp_path):
    code = (
        'import os, signal\nfrom mstkit.errors import exit_cleanly\n'
        '@exit_cleanly\ndef main():\n    os.kill(os.getpid(), signal.SIGINT)\n    import time; time.sleep(9)\nmain()'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert (done.returncode, done.stderr.strip()) == (130, 'stopped from the keyboard')


class Slowly(Dataset):
    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> int:
        time.sleep(0.02)
        return index


@pytest.mark.skipif(sys.platform != 'linux', reason='the system does not tell who sent a signal')
def test_a_data_worker_outlives_the_signal_of_a_stranger():
    loader = DataLoader(Slowly(), num_workers=1, worker_init_fn=OutlivingWorker(print))
    batches = iter(loader)
    found = [int(next(batches))]
    (worker,) = multiprocessing.active_children()
    for name in ('TERM', 'INT', 'HUP'):
        subprocess.run(['kill', f'-{name}', str(worker.pid)], check=True)
    found += [int(batch) for batch in batches]
    assert found == list(range(12))


@pytest.mark.skipif(sys.platform != 'linux', reason='the system does not tell who sent a signal')
def test_a_data_worker_ends_when_its_training_asks():
    loader = DataLoader(Slowly(), num_workers=1, worker_init_fn=OutlivingWorker(), persistent_workers=True)
    batches = iter(loader)
    next(batches)
    (worker,) = multiprocessing.active_children()
    start = time.monotonic()
    worker.terminate()
    worker.join(15)
    assert worker.exitcode == 0 and time.monotonic() - start < 10


def test_every_loader_of_a_training_has_such_workers(tmp_path):
    loader = running.build(tmp_path, train_dataloader__num_workers=1).train_dataloader
    assert isinstance(loader.worker_init_fn, OutlivingWorker) and callable(loader.worker_init_fn.first)
