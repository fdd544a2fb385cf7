"""A thread that neither moves nor works, nor waits for the other processes, is found; one that does anything is not."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mstkit.engine.parallel.heartbeat import Heartbeat
from mstkit.engine.parallel.standstill import Standstill

from .test_heartbeat import Listener, MemoryStore
from .toy_ranks import toy_ranks

LIMIT = 1.0  # seconds: a busy machine lets a thread compute a twentieth of it


@contextmanager
def thread_in(work: Callable[[threading.Event], object]) -> Iterator[threading.Thread]:
    """A thread that is in the work."""
    ended = threading.Event()
    thread = threading.Thread(target=work, args=(ended,), daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        ended.set()
        thread.join(10)


def watch(work: Callable[[threading.Event], object]) -> str | None:
    """What is found within a bit more than twice the limit."""
    with thread_in(work) as thread:
        watcher = Standstill(LIMIT, thread)
        until = time.monotonic() + 2.4 * LIMIT
        while time.monotonic() < until:
            time.sleep(LIMIT / 5)
            if where := watcher.found():
                return where
    return None


def waiting(ended: threading.Event) -> None:
    ended.wait(60)


def polling(ended: threading.Event) -> None:
    """As a data loader waits for its workers."""
    while not ended.wait(0.7 * LIMIT):
        pass


def computing(ended: threading.Event) -> None:
    while not ended.is_set():
        sum(range(10000))


def writing(ended: threading.Event) -> None:
    with open(os.devnull, 'wb', buffering=0) as file:
        while not ended.wait(LIMIT / 10):
            file.write(bytes(1 << 20))


def with_a_worker(ended: threading.Event) -> None:
    with subprocess.Popen([sys.executable, '-c', 'while True: pass']) as worker:
        ended.wait(60)
        worker.kill()


def test_who_waits_for_what_does_not_come_is_found():
    start = time.monotonic()
    where = watch(waiting)
    assert time.monotonic() - start >= LIMIT and where is not None
    assert where.startswith('wait (') and f'called by waiting ({__file__}:' in where
    line = int(where.split(f'{__file__}:')[1].split(')')[0])
    assert Path(__file__).read_text().splitlines()[line - 1] == '    ended.wait(60)'
    assert watch(polling) is not None


@pytest.mark.parametrize('work', [computing, writing, with_a_worker], ids=lambda one: one.__name__)
def test_who_does_anything_is_not(work):
    assert watch(work) is None


@pytest.mark.parametrize('place', ['torch/distributed/distributed_c10d.py', 'torch/autograd/graph.py'])
def test_who_waits_for_the_others_is_not(place):
    code = 'def _engine_run_backward(ended):\n    ended.wait(60)\n'
    if 'distributed' in place:
        code = code.replace('_engine_run_backward', 'all_reduce')
    made: dict = {}
    exec(compile(code, f'/packages/{place}', 'exec'), made)
    [work] = [value for name, value in made.items() if not name.startswith('__')]
    assert watch(work) is None


def test_who_was_stopped_begins_anew():
    with thread_in(waiting) as thread:
        watcher = Standstill(LIMIT, thread)
        watcher.found()
        time.sleep(1.2 * LIMIT)
        watcher.reset()
        assert watcher.found() is None and watcher.found() is None
        time.sleep(1.2 * LIMIT)
        assert watcher.found() is not None


def test_who_stands_still_tells_all():
    store, listener = MemoryStore(), Listener()
    with thread_in(waiting) as thread, Heartbeat(store, 1, 3, 2.0, listener, Standstill(LIMIT, thread)):
        assert listener.heard.wait(20)
    [said] = listener.said
    assert said.startswith('rank 1 (process ') and 'has stood still for 1 s in wait (' in said
    assert store.kept['lost'] == said


def test_a_rank_that_hangs_in_a_step_ends_the_other_with_its_name(tmp_path, free_port):
    with toy_ranks(tmp_path, free_port, 'dict(lost_after=5, stuck_after=5)', HANGS='2:1') as ranks:
        for rank in ranks:
            _, said = rank.communicate(timeout=120)
            assert rank.returncode == 3, said
            assert 'error: rank 1 (process ' in said and 'has stood still for 5 s in after_train_iter (' in said
