"""Two processes that work together; they start once, and compute for one test after the other."""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Client, Connection, Listener, wait
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope

from tests import warm
from tests.ports import unused_port
from tests.programs import ROOT

SIZE = 2
SECONDS = 900  # for one call; a rank that waits for the other in vain gives up earlier


class TwoProcesses:
    """Starts with the first call."""

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []
        self._connections: list[Connection] = []

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Runs ``function(rank, *arguments)`` on both ranks of a process group (gloo); what they returned, by rank.

        Args:
            function: of a module's top level. It starts from the same seed each time.
            arguments: copied to the processes, as the results are copied back.
        """
        if not self._processes:
            self._start()
        port = unused_port()
        for connection in self._connections:
            connection.send((port, function, arguments))
        found: dict[int, Any] = {}
        while len(found) < SIZE:
            ready = wait([one for rank, one in enumerate(self._connections) if rank not in found], SECONDS)
            if not ready:
                self.close()
                pytest.fail(f'{function.__module__}.{function.__name__}: no answer in {SECONDS} s')
            for rank, connection in enumerate(self._connections):
                if connection not in ready:
                    continue
                try:
                    done, answer = pickle.loads(connection.recv_bytes())
                except EOFError:
                    done, answer = False, 'the process died'
                if not done:
                    self.close()
                    pytest.fail(f'rank {rank}: {answer}')
                found[rank] = answer
        return [found[rank] for rank in range(SIZE)]

    def close(self) -> None:
        """Ends both; the next call starts others."""
        for process in self._processes:
            process.kill()
            process.wait()
        for connection in self._connections:
            connection.close()
        self._processes, self._connections = [], []

    def _start(self) -> None:
        environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
        with Listener() as listener:
            for rank in range(SIZE):
                code = f'from tests.two_processes import serve; serve({rank}, {listener.address!r})'
                self._processes.append(subprocess.Popen([warm.python(), '-c', code], env=environment))
                self._connections.append(listener.accept())


def serve(rank: int, address: str) -> None:
    """What each of the two does until it is ended.

    Args:
        rank: of the process.
        address: where it is told what to compute.
    """
    connection = Client(address)
    torch.set_num_threads(1)
    while True:
        try:
            port, function, arguments = connection.recv()
        except EOFError:  # whoever asked is gone
            return
        try:
            answer = True, _as_rank(rank, port, function, arguments)
        except BaseException:
            answer = False, traceback.format_exc()
        connection.send_bytes(pickle.dumps(answer))


def _as_rank(rank: int, port: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    DefaultScope._instance_dict.clear()
    DefaultScope.get_instance('tests', scope_name='mstkit')
    place = dict(
        MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE=str(SIZE), LOCAL_RANK=str(rank)
    )
    with pytest.MonkeyPatch.context() as patch:
        for name, value in place.items():
            patch.setenv(name, value)
        torch.distributed.init_process_group('gloo', rank=rank, world_size=SIZE, timeout=timedelta(seconds=SECONDS / 3))
        try:
            # A Runner asks compilers and drivers for their versions, which takes seconds each time.
            patch.setattr('mmengine.runner.runner.collect_env', dict)
            found = function(rank, *arguments)
            torch.distributed.barrier()
        finally:
            torch.distributed.destroy_process_group()
    return found
