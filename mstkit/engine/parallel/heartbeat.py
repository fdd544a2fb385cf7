"""Processes that train together notice when one of them is not heard of any more, or stands still, and name it."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Protocol

from mmengine import dist

from mstkit.engine.parallel.standstill import Standstill
from mstkit.errors import STOPPED_EXIT
from mstkit.utils.checks import check_number
from mstkit.utils.private_attributes import connection_of_group, end_process

LIMIT = 45.0  # seconds
STUCK = 600.0  # seconds
_BEATS = 9  # within the limit
_LOST, _LEFT = 'lost', 'left'


class Store(Protocol):
    """What is needed of ``torch.distributed.Store``."""

    def set(self, key: str, value: str) -> None: ...

    def get(self, key: str) -> bytes: ...

    def check(self, keys: list[str]) -> bool: ...


class Heartbeat:
    """Context in which a thread says every few seconds that this process lives, and listens to the next rank.

    Without it, processes wait for one that is stopped, or whose machine is gone, until the timeout of the backend (10
    minutes with NCCL, 30 with gloo), and end with a message that does not name it. A process that works long, in a
    measurement or while it reads, is not taken for lost: its thread goes on. Each rank listens to one other, so the
    cost does not grow with their number; what it finds it tells all through the store.

    Args:
        store: of the process group, a connection of its own.
        rank: of this process.
        size: number of processes.
        limit: seconds without a sign after which a process is lost.
        lose: called with a sentence when one is lost; ends this process.
        standstill: looks whether this process itself stands still; None does not.
    """

    def __init__(
        self,
        store: Store,
        rank: int,
        size: int,
        limit: float = LIMIT,
        lose: Callable[[str], object] | None = None,
        standstill: Standstill | None = None,
    ) -> None:
        self.store, self.rank, self.next = store, rank, (rank + 1) % size
        self.limit, self.lose, self.standstill = limit, lose or end_with, standstill
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name='heartbeat')

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(self.limit)

    def _run(self) -> None:
        me = f'process {os.getpid()} on {socket.gethostname()}'
        seen, last, woke, number, reached = '', time.monotonic(), time.monotonic(), 0, True
        pause = self.limit / _BEATS
        while True:
            ended, number, now = self._ended.is_set(), number + 1, time.monotonic()
            if now - woke > 3 * pause:  # this process itself was stopped, perhaps all were
                last = now
                if self.standstill is not None:
                    self.standstill.reset()
            woke = now
            try:
                self.store.set(str(self.rank), _LEFT if ended else f'{number} {me}')
                if ended:
                    return
                if self.store.check([_LOST]):
                    self._end(self.store.get(_LOST).decode())
                    return
                if self.standstill is not None and (where := self.standstill.found()):
                    self._report(
                        f'rank {self.rank} ({me}) has stood still for {self.standstill.limit:g} s in {where}: it waits '
                        'for what does not come, such as a file system or a lock, and not for the others.'
                    )
                    return
                sign = self.store.get(str(self.next)).decode() if self.store.check([str(self.next)]) else ''
                reached = True
            except RuntimeError:  # of torch: rank 0, which holds the store, cannot be reached, or has just ended
                if ended:
                    return
                sign, reached = seen, False
            if sign != seen or sign in ('', _LEFT):  # '': it has not begun
                seen, last = sign, now
            elif now - last > self.limit:
                self._report(self._lost(seen if reached else ''))
                return
            self._ended.wait(pause)

    def _lost(self, seen: str) -> str:
        who = (
            f'rank {self.next} ({seen.partition(" ")[2]})'
            if seen
            else 'rank 0, which holds the store of all processes,'
        )
        return f'{who} has not been heard of for {self.limit:g} s: it hangs, is stopped, or its machine is gone.'

    def _report(self, text: str) -> None:
        with contextlib.suppress(RuntimeError):  # the store may be gone
            self.store.set(_LOST, text)
        self._end(text)

    def _end(self, text: str) -> None:
        """Ends this process when all have read the sentence: one that ends breaks its connections to the others."""
        time.sleep(1.5 * self.limit / _BEATS)
        self.lose(text)


def end_with(text: str) -> None:
    """Ends this process at once, with a sentence: its main thread waits for the lost one and cannot be reached."""
    more = 'The others cannot continue without it; --resume goes on from the last checkpoint.'
    os.write(2, f'error: {text} {more}\n'.encode())
    end_process(STOPPED_EXIT)


def heartbeat(environment: Mapping[str, Any]) -> Heartbeat | None:
    """The heartbeat of this process; None if it trains alone, or if it is switched off.

    Args:
        environment: ``env_cfg`` of the config; ``lost_after`` is the limit in seconds, ``stuck_after`` that of standing
            still, None for none.

    Raises:
        UsageError: a limit that is no number above 0.
    """
    limit = environment.get('lost_after', LIMIT)
    if limit is not None:
        check_number('env_cfg.lost_after', limit, 1)
    stuck = environment.get('stuck_after', STUCK)
    if stuck is not None:
        check_number('env_cfg.stuck_after', stuck, 1)
    if limit is None or dist.get_world_size() == 1:
        return None
    standstill = None if stuck is None else Standstill(stuck)
    store = connection_of_group('mstkit/heartbeat')
    return Heartbeat(store, dist.get_rank(), dist.get_world_size(), limit, standstill=standstill)
