"""What a machine runs out of is a sentence with the way out and the last good checkpoint."""

from __future__ import annotations

import errno
import os
import signal
import socket
import time
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from torch.utils.data import DataLoader, Dataset

from mstkit.engine.checkpoints.run_ending import as_stop
from mstkit.engine.checkpoints.what_was_lost import what_ran_out
from mstkit.errors import StoppedBySignal, WorkStopped
from mstkit.models.backbones import MaskedVisionTransformer
from tests.ports import unused_port

from . import running

CONFIG = Config(
    dict(
        model=dict(backbone=dict(type=MaskedVisionTransformer.__name__)),
        optim_wrapper=dict(precision='fp32', accumulative_counts=2),
        train_dataloader=dict(batch_size=64),
    )
)


@pytest.mark.parametrize(
    ('error', 'said'),
    [
        ('DataLoader worker (pid 7) is killed by signal: Killed. ', 'was killed, which the system does when'),
        ('DataLoader worker (pid 7) is killed by signal: Bus error. It is possible', 'enlarge /dev/shm'),
        ('DataLoader worker (pid(s) 7, 8) exited unexpectedly', '(process 7, 8) ended; what it said is above'),
        ('DataLoader worker (pid 7) exited unexpectedly with exit code 1. Details', 'ended with exit code 1; what'),
        ('DataLoader worker (pid 7) is killed by signal: Aborted. ', 'was ended by a signal (Aborted)'),
    ],
)
def test_a_dead_data_worker(tmp_path, error, said):
    runner = running.build(tmp_path)
    stop = as_stop(runner, RuntimeError(error))
    assert isinstance(stop, WorkStopped) and said in str(stop)
    assert str(stop).endswith('There is no checkpoint yet.')
    asked = as_stop(runner, RuntimeError(error), [signal.SIGTERM])
    assert isinstance(asked, StoppedBySignal) and 'which ended the workers' in str(asked)


class Rows(Dataset):
    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.zeros(1000)


def test_a_worker_that_ends_while_its_batch_is_fetched(tmp_path, monkeypatch):
    batches: Any = iter(DataLoader(Rows(), 4, num_workers=1))
    next(batches)
    time.sleep(0.5)  # the next ones lie in its queue
    [worker] = batches._workers
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    monkeypatch.setattr(worker, 'is_alive', lambda: True)  # as in the moment before the system counts it as dead
    error = raised(lambda: [*batches])
    assert isinstance(error, OSError) and not isinstance(error, RuntimeError)
    said = str(as_stop(running.build(tmp_path), error))
    assert said.startswith(
        'a data worker ended while its batch was fetched. The system kills some when memory runs out'
    )
    elsewhere = raised(lambda: socket.create_connection(('127.0.0.1', unused_port())))
    assert as_stop(running.build(tmp_path / 'other'), elsewhere) is elsewhere


def raised(cause) -> BaseException:
    try:
        cause()
    except BaseException as error:
        return error
    raise AssertionError('nothing was raised')


class Greedy(Dataset):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> np.ndarray:
        return np.zeros(10**15)


ENOUGH = 'What helps: --cfg-options with what follows: to compute layers a second time instead of keeping them '
ENOUGH += '(model.backbone.with_cp=True), or half precision (optim_wrapper.precision=bf16), or in a new run, half the '
ENOUGH += 'batch twice (train_dataloader.batch_size=32 optim_wrapper.accumulative_counts=4).'


@pytest.mark.parametrize(
    ('cause', 'size'),
    [
        (lambda: torch.zeros(10**15), '3814697266 MiB'),
        (lambda: np.zeros(10**15), '7.11 PiB'),
    ],
    ids=['torch', 'numpy'],
)
def test_memory_runs_out_really(cause, size):
    assert what_ran_out(raised(cause), CONFIG) == f'memory ran out ({size} could not be had). {ENOUGH}'


@pytest.mark.parametrize(
    'error',
    [
        RuntimeError('could not create a primitive'),
        ImportError('/x/_image.so: failed to map segment from shared object'),
    ],
    ids=['onednn', 'loader'],
)
def test_memory_runs_out_in_a_library(error):
    assert what_ran_out(error, CONFIG) == f'memory ran out. {ENOUGH}'


def test_memory_of_the_gpu():
    text = 'CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 139.80 GiB of which'
    said = what_ran_out(torch.OutOfMemoryError(text), CONFIG)
    assert said == f'the memory of the GPU ran out (2.50 GiB could not be had). {ENOUGH}'
    bare = Config(dict(train_dataloader=dict(batch_size=1)))
    assert what_ran_out(torch.OutOfMemoryError('CUDA out of memory.'), bare) == (
        'the memory of the GPU ran out. What helps: a smaller network or smaller images.'
    )


def test_memory_of_a_data_worker_really():
    error = raised(lambda: next(iter(DataLoader(Greedy(), num_workers=1))))
    assert what_ran_out(error, CONFIG) == (
        'memory ran out in a data worker (7.11 PiB could not be had): start fewer of them (--cfg-options '
        'train_dataloader.num_workers=N), or free memory.'
    )


@pytest.mark.parametrize(
    'error',
    [
        OSError(errno.EMFILE, os.strerror(errno.EMFILE), '/x'),
        RuntimeError('received 0 items of ancdata'),
        RuntimeError('Too many open files. Communication with the workers is no longer possible.'),
    ],
    ids=['system', 'torch', 'workers'],
)
def test_too_many_files(error):
    said = what_ran_out(error, CONFIG)
    assert said is not None and 'ulimit -n' in said


@pytest.mark.parametrize(
    'error',
    [RuntimeError('shapes differ'), OSError(errno.ENOENT, 'gone'), KeyError('a'), WorkStopped('Broken pipe')],
    ids=repr,
)
def test_other_errors_stay(tmp_path, error):
    assert what_ran_out(error, CONFIG) is None
    assert as_stop(running.build(tmp_path), error, [signal.SIGTERM]) is error
