"""Set-up of distributed runs: GPUs over NCCL and CPU processes over gloo, with the same commands."""

from __future__ import annotations

import atexit
import datetime
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from mmengine import dist
from mmengine.dist import init_dist, is_distributed
from mmengine.model import is_model_wrapper
from torch import distributed

from mstkit.errors import StoppedBySignal, UsageError, WorkStopped, exit_code
from mstkit.utils.checks import check_one_of

Result = TypeVar('Result')
LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')
_PATIENCE = 20.0  # seconds that other ranks wait for rank 0 to report an error before they do
_SHORT_PATIENCE = 2.0  # seconds, where rank 0 certainly has the same to report


def backend_for_device() -> str:
    """The communication backend of this machine: ``nccl`` with a GPU, else ``gloo``."""
    return 'nccl' if torch.cuda.is_available() else 'gloo'


def init_processes(launcher: str, dist_cfg: Mapping[str, Any] | None = None) -> None:
    """Joins the process group of a distributed run, once; does nothing with the launcher ``none``.

    On the CPU, mmengine's own set-up cannot be used: it selects a CUDA device.

    Args:
        launcher: the program that started the processes, one of :data:`LAUNCHERS`.
        dist_cfg: ``env_cfg.dist_cfg`` of the config: backend, timeout in seconds.

    Raises:
        UsageError: an unknown launcher, or one that did not start this process.
    """
    check_one_of('launcher', launcher, LAUNCHERS)
    if launcher == 'none' or is_distributed():
        return
    settings = dict(dist_cfg or {})
    if torch.cuda.is_available():
        settings.setdefault('backend', 'nccl')
        init_dist(launcher, **settings)
        return
    _set_rank_environment(launcher)
    timeout = settings.get('timeout')
    patience = None if timeout is None else datetime.timedelta(seconds=timeout)
    distributed.init_process_group(backend='gloo', timeout=patience)
    # gloo's threads have to end before the interpreter does, or a finished process may abort at exit.
    atexit.register(_leave_processes)


def unwrapped(model: Any) -> Any:
    """The model inside a distributed wrapper such as DDP, or the model itself if it is not wrapped."""
    return model.module if is_model_wrapper(model) else model


def on_rank_zero(work: Callable[[], Result]) -> Result:
    """Calls a function on rank 0 only and returns its result on every rank; every rank calls this.

    Args:
        work: for example a change on the disk; its result must be picklable.

    Raises:
        UsageError: on every rank, if ``work`` raised it on rank 0.
    """
    answer: list[Any] = [None, None]
    if dist.is_main_process():
        try:
            answer[0] = work()
        except UsageError as error:
            answer[1] = str(error)
    dist.broadcast_object_list(answer)
    if answer[1] is not None:
        raise UsageError(answer[1])
    return answer[0]


def _leave_processes() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()


def process_count(launcher: str) -> int:
    """How many processes a launcher started, by its variables, before they are joined; 1 without a launcher."""
    if launcher == 'none':
        return 1
    return int(os.environ.get(_rank_variables(launcher)[2], '1'))


def _rank_variables(launcher: str) -> tuple[str, str, str]:
    """The environment variables of a launcher for rank, local rank and number of processes."""
    if launcher == 'slurm':
        return 'SLURM_PROCID', 'SLURM_LOCALID', 'SLURM_NTASKS'
    if launcher == 'mpi':
        return 'OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_LOCAL_RANK', 'OMPI_COMM_WORLD_SIZE'
    return 'RANK', 'LOCAL_RANK', 'WORLD_SIZE'


def _set_rank_environment(launcher: str) -> None:
    """Sets torch's environment variables (``RANK`` etc.) from those of the launcher."""
    try:
        if launcher == 'slurm':
            node = subprocess.getoutput(f'scontrol show hostname {os.environ["SLURM_NODELIST"]} | head -n1')
            os.environ.setdefault('MASTER_ADDR', node)
        elif launcher == 'mpi':
            os.environ.setdefault('MASTER_ADDR', '127.0.0.1')
        values = [os.environ[name] for name in _rank_variables(launcher)]
    except KeyError as error:
        raise UsageError(
            f'--launcher {launcher} was given, but {error} is not set: start the processes with '
            'tools/dist_train.sh or tools/slurm_train.sh, or leave --launcher out.'
        ) from error
    os.environ.update(zip(_rank_variables('pytorch'), values, strict=True))
    os.environ.setdefault('MASTER_PORT', '29500')


@contextmanager
def rank_zero_speaks() -> Iterator[None]:
    """Lets only rank 0 report an error that occurs on every rank.

    The other ranks wait first: the launcher ends them when rank 0 exits. A rank that is still alive after that has an
    error that rank 0 does not have, and reports it.
    """
    try:
        yield
    except (UsageError, WorkStopped) as error:
        rank = int(os.environ.get('RANK', os.environ.get('SLURM_PROCID', '0')))
        if rank == 0:
            raise
        if isinstance(error, StoppedBySignal):  # all ranks stopped together
            time.sleep(_SHORT_PATIENCE)
            sys.exit(exit_code(error))
        time.sleep(_PATIENCE)
        print(f'error on rank {rank}: {error}', file=sys.stderr, flush=True)
        sys.exit(exit_code(error))
