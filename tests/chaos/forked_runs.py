"""Trainings as processes of their own, which start within a second: they are forked from one that imported everything.

The command and all that it does are those of ``mstkit train``. Only the versions of compilers and drivers are not asked
for, which takes seconds.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from mstkit.commands import train_command
from mstkit.engine.checkpoints import resumable_runner
from tests.ports import unused_port

POLL = 0.02  # seconds
LONGEST = 600.0  # seconds


class ForkedRun:
    """A training, its ranks and their data workers; every rank is the leader of a process group.

    Args:
        words: of the command line, after ``mstkit train``.
        log: what it prints is appended there.
        ranks: processes that train together.
        prepare: called in each rank before the command, such as to set a limit.
    """

    def __init__(
        self, words: Sequence[str], log: Path, ranks: int = 1, prepare: Callable[[], object] | None = None
    ) -> None:
        self.words, self.log, self.prepare = [*words], log, prepare
        self.codes: dict[int, int] = {}
        port = unused_port() if ranks > 1 else 0
        self.pids = [self._fork(rank, ranks, port) for rank in range(ranks)]

    def wait(self, seconds: float = LONGEST) -> bool:
        """Waits until all ranks have ended; returns whether they have."""
        end = time.monotonic() + seconds
        while len(self.codes) < len(self.pids):
            for rank, pid in enumerate(self.pids):
                if rank not in self.codes:
                    ended, status = os.waitpid(pid, os.WNOHANG)
                    if ended:
                        self.codes[rank] = os.waitstatus_to_exitcode(status)
            if time.monotonic() > end:
                break
            time.sleep(POLL)
        return len(self.codes) == len(self.pids)

    def send(self, number: signal.Signals, workers: bool = True) -> None:
        """Sends a signal to all ranks that live, and to their workers."""
        for rank, pid in enumerate(self.pids):
            if rank not in self.codes:
                (os.killpg if workers else os.kill)(pid, number)

    def kill(self) -> None:
        """Kills all that is left of it and waits."""
        for rank, pid in enumerate(self.pids):
            try:
                os.killpg(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            if rank not in self.codes:
                self.codes[rank] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def workers(self) -> list[int]:
        """The process ids of its data workers."""
        found = []
        for entry in Path('/proc').iterdir():
            if entry.name.isdigit():
                try:
                    fields = (entry / 'stat').read_text().rpartition(')')[2].split()
                except OSError:  # it has just ended
                    continue
                if int(fields[1]) in self.pids:
                    found.append(int(entry.name))
        return found

    def said(self) -> str:
        """The end of what it printed."""
        return self.log.read_text(errors='replace')[-4000:]

    def _fork(self, rank: int, ranks: int, port: int) -> int:
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            os.setpgid(0, 0)
            self._become(rank, ranks, port)
            train_command.main()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
            if isinstance(stop.code, str):
                print(stop.code, file=sys.stderr)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code & 255)
        raise AssertionError('not reached')

    def _become(self, rank: int, ranks: int, port: int) -> None:
        output = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for number in (1, 2):
            os.dup2(output, number)
        sys.stdout, sys.stderr = (open(number, 'w', buffering=1, closefd=False) for number in (1, 2))  # noqa: SIM115
        words = list(self.words)
        if ranks > 1:
            here = dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=port, WORLD_SIZE=ranks, RANK=rank, LOCAL_RANK=rank)
            os.environ.update({name: str(value) for name, value in here.items()})
            words += ['--launcher', 'pytorch']
        sys.argv = ['mstkit train', *words]
        torch.set_num_threads(1)
        resumable_runner.collect_env = dict
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL)
        if self.prepare is not None:
            self.prepare()
