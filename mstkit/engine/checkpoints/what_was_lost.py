"""What a training lost, in a sentence with the way out: memory, data workers, open files, another process."""

from __future__ import annotations

import errno
import os
import re
import traceback
from collections.abc import Mapping
from typing import Any

import torch

from mstkit.errors import NOT_MAPPED

# In torch's words.
_DEAD_WORKER = re.compile(
    r'DataLoader worker \(pid(?:\(s\))? (?P<pid>[\d, ]+)\) '
    r'(?:is killed by signal: (?P<signal>[^.]+)|exited unexpectedly(?: with exit code (?P<code>\d+))?)'
)
# The last two are what oneDNN says, and the loader of libraries, some of which are imported when they are needed.
_NO_MEMORY = re.compile(
    r"can't allocate memory|[Cc]annot allocate memory|Unable to allocate|not enough memory|could not create a primitive"
    rf'|{NOT_MAPPED}'
)
_FAILED_SIZE = re.compile(
    r'(?:[Tt]ried to allocate|Unable to allocate) (?P<size>[\d.]+) ?(?P<unit>[KMGTPE]i?B)|allocate (?P<bytes>\d+) bytes'
)
_NO_FILES = ('Too many open files', 'items of ancdata')  # the latter where workers hand over their batches by files
_BROKEN = ('Connection closed by peer', 'Connection reset by peer', 'Broken pipe')
_LOADER = os.path.join('torch', 'utils', 'data', '')
_SHARER = os.path.join('multiprocessing', 'resource_sharer.py')
_WORKER = re.compile(r'in DataLoader worker process (?P<number>\d+)')


def dead_worker(error: BaseException) -> str | None:
    """A sentence about a data worker that died, and what helps; None if it is another error."""
    fewer = 'fewer of them with --cfg-options train_dataloader.num_workers=N'
    if _fetched_a_batch(error):
        why = 'The system kills some when memory runs out'
        return f'a data worker ended while its batch was fetched. {why}: start {fewer}.'
    found = _DEAD_WORKER.search(str(error)) if isinstance(error, RuntimeError) else None
    if found is None:
        return None
    pid, how, code = found['pid'], found['signal'], found['code']
    if how == 'Killed':
        return f'a data worker (process {pid}) was killed, which the system does when memory runs out: start {fewer}.'
    if how == 'Bus error':
        way_out = f'enlarge /dev/shm (docker run --shm-size=8g), or start {fewer}'
        return f'a data worker (process {pid}) got no shared memory: {way_out}.'
    ended = f'was ended by a signal ({how})' if how else f'ended{f" with exit code {code}" if code else ""}'
    return f'a data worker (process {pid}) {ended}; what it said is above.'


def _fetched_a_batch(error: BaseException) -> bool:
    """Whether an error comes from the connection by which torch's loader fetches the tensors of a worker.

    torch has words of its own for a dead worker, but not in the moment before the system counts it as dead.
    """
    if not isinstance(error, ConnectionError | EOFError | FileNotFoundError):
        return False
    passed = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    return any(_LOADER in name for name in passed) and any(name.endswith(_SHARER) for name in passed)


def lost_connection(error: BaseException) -> str | None:
    """A sentence about a process of the same training that has ended; None if it is another error."""
    text = str(error)
    if not isinstance(error, RuntimeError) or not any(word in text for word in _BROKEN):
        return None
    return 'the connection to another process of this training broke: what that one said is above, or in its own log.'


def what_ran_out(error: BaseException, config: Mapping[str, Any]) -> str | None:
    """A sentence about memory or open files that ran out, and what helps; None if it is another error.

    Args:
        error: that ended a training.
        config: of the run, for options that help.
    """
    text = str(error)
    if (isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)) or any(
        word in text for word in _NO_FILES
    ):
        return (
            'too many files are open for the limit of this shell or this machine: raise it (ulimit -n 4096), or start '
            'fewer data workers (--cfg-options train_dataloader.num_workers=N).'
        )
    on_gpu = isinstance(error, torch.OutOfMemoryError)
    no_memory = isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
    if not on_gpu and not no_memory and not (isinstance(error, RuntimeError | ImportError) and _NO_MEMORY.search(text)):
        return None
    worker = _WORKER.search(text)
    if worker or (no_memory and 'DataLoader' in text):
        return (
            f'memory ran out in a data worker{_size(text)}: start fewer of them (--cfg-options '
            'train_dataloader.num_workers=N), or free memory.'
        )
    place = 'the memory of the GPU' if on_gpu else 'memory'
    return f'{place} ran out{_size(text)}. What helps: {_less_memory(config)}.'


def _size(text: str) -> str:
    """How much could not be had."""
    found = _FAILED_SIZE.search(text)
    if found is None:
        return ''
    if found['bytes']:
        return f' ({int(found["bytes"]) / 2**20:.0f} MiB could not be had)'
    return f' ({found["size"]} {found["unit"]} could not be had)'


def _less_memory(config: Mapping[str, Any]) -> str:
    """Options with which a run needs less, the ones first with which it can be resumed."""
    ways = []
    backbone = (config.get('model') or {}).get('backbone') or {}
    if not backbone.get('with_cp') and 'Masked' in str(backbone.get('type')):
        ways.append('to compute layers a second time instead of keeping them (model.backbone.with_cp=True)')
    wrapper = config.get('optim_wrapper') or {}
    if wrapper.get('precision') == 'fp32':
        ways.append('half precision (optim_wrapper.precision=bf16)')
    batch = (config.get('train_dataloader') or {}).get('batch_size')
    if isinstance(batch, int) and batch > 1:
        counts = 2 * wrapper.get('accumulative_counts', 1)
        ways.append(
            f'in a new run, half the batch twice (train_dataloader.batch_size={batch // 2} '
            f'optim_wrapper.accumulative_counts={counts})'
        )
    return f'--cfg-options with what follows: {", or ".join(ways)}' if ways else 'a smaller network or smaller images'
