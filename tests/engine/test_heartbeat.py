"""A process that is not heard of any more is noticed and named by the others; one that works long is not."""

from __future__ import annotations

import threading
import time

import pytest

from mstkit.engine.parallel import heartbeat as module
from mstkit.engine.parallel.heartbeat import Heartbeat, heartbeat
from mstkit.errors import UsageError

from .toy_ranks import toy_ranks

LIMIT = 0.6  # seconds


class MemoryStore:
    """A store in this process; it can be gone."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}
        self.gone = False

    def _here(self) -> None:
        if self.gone:
            raise RuntimeError('Connection reset by peer')

    def set(self, key: str, value: str) -> None:
        self._here()
        self.kept[key] = value

    def get(self, key: str) -> bytes:
        self._here()
        return self.kept[key].encode()

    def check(self, keys: list[str]) -> bool:
        self._here()
        return all(key in self.kept for key in keys)


class Listener:
    """Keeps the sentence with which a process would have ended."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.heard = threading.Event()

    def __call__(self, text: str) -> None:
        self.said.append(text)
        self.heard.set()


def test_the_one_that_falls_silent_is_named():
    store, listener = MemoryStore(), Listener()
    start = time.monotonic()
    with Heartbeat(store, 0, 3, LIMIT, listener):
        store.set('1', '8 process 77 on elsewhere')
        assert listener.heard.wait(20)
    assert time.monotonic() - start >= LIMIT
    [said] = listener.said
    assert said.startswith('rank 1 (process 77 on elsewhere) has not been heard of for 0.6 s: it hangs')
    assert store.kept['lost'] == said  # for those who listen to others


def test_what_one_found_ends_all():
    store, listener = MemoryStore(), Listener()
    with Heartbeat(store, 2, 3, 30, listener):
        store.set('lost', 'rank 1 is gone')
        assert listener.heard.wait(20)
    assert listener.said == ['rank 1 is gone']


@pytest.mark.parametrize('sign', ['', 'left'])
def test_who_has_not_begun_or_has_left_is_not_lost(sign):
    store, listener = MemoryStore(), Listener()
    if sign:
        store.set('1', sign)
    with Heartbeat(store, 0, 2, LIMIT, listener):
        time.sleep(3 * LIMIT)
    assert listener.said == [] and store.kept['0'] == 'left'


def test_those_who_live_hear_each_other():
    store, listener = MemoryStore(), Listener()
    with Heartbeat(store, 0, 2, LIMIT, listener), Heartbeat(store, 1, 2, LIMIT, listener):
        time.sleep(3 * LIMIT)
    assert listener.said == []


def test_a_store_that_is_gone_is_rank_zero():
    store, listener = MemoryStore(), Listener()
    with Heartbeat(store, 1, 3, LIMIT, listener):
        store.set('2', '1 process 5 on there')
        time.sleep(LIMIT / 3)
        store.gone = True
        assert listener.heard.wait(20)
    assert listener.said[0].startswith('rank 0, which holds the store of all processes, has not been heard of')


def test_who_was_stopped_itself_does_not_blame_another(monkeypatch):
    """As when a job is suspended: all go on at the same time, and some before the others."""
    store, listener, offset = MemoryStore(), Listener(), [0.0]
    clock = time.monotonic
    monkeypatch.setattr(module.time, 'monotonic', lambda: clock() + offset[0])
    with Heartbeat(store, 0, 2, 5.0, listener):
        store.set('1', '1 process 5 on there')
        time.sleep(0.3)
        offset[0] = 1000.0
        time.sleep(1.2)
        assert listener.said == []


def test_the_limit_is_the_configs(monkeypatch):
    assert heartbeat({}) is None  # alone
    with pytest.raises(UsageError, match=r'env_cfg\.lost_after is 0'):
        heartbeat(dict(lost_after=0))
    monkeypatch.setattr(module.dist, 'get_world_size', lambda: 2)
    assert heartbeat(dict(lost_after=None)) is None
    monkeypatch.setattr(module, 'connection_of_group', lambda name: MemoryStore())
    found = heartbeat({})
    assert found is not None and (found.rank, found.next, found.limit) == (0, 1, 45.0)
    assert found.standstill is not None and found.standstill.limit == 600
    with pytest.raises(UsageError, match=r'env_cfg\.stuck_after is True'):
        heartbeat(dict(stuck_after=True))
    without = heartbeat(dict(stuck_after=None))
    assert without is not None and without.standstill is None


def test_a_rank_that_is_stopped_ends_the_other_with_its_name(tmp_path, free_port):
    start = time.monotonic()
    with toy_ranks(tmp_path, free_port, 'dict(lost_after=2)', SIGNALS='2:STOP:1') as ranks:
        _, said = ranks[0].communicate(timeout=120)
        assert ranks[0].returncode == 3
        assert 'error: rank 1 (process ' in said and 'has not been heard of for 2 s' in said
        assert time.monotonic() - start < 60 and ranks[1].poll() is None
