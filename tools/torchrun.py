"""torchrun with the exit codes of our tools: ``python tools/torchrun.py PROCESSES SCRIPT ARGUMENTS``.

On several machines, the environment says which: NNODES, NODE_RANK, MASTER_ADDR and PORT. torchrun itself exits with 1
and a traceback of its own, whatever its processes said; here a user's mistake, or a training that has to stop, about
which rank 0 has already printed its sentence, exits with the same code: 2 or 3. Where a process crashes or is killed,
the others are ended within seconds, and the last line names the one that went first.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run

SAID = (2, 3)  # mstkit.errors.USAGE_EXIT and STOPPED_EXIT; importing mstkit takes seconds
ROOT = Path(__file__).resolve().parent.parent


class _MistakesAreSaid(logging.Filter):
    """Drops torchrun's own lines about a process that exited with one of :data:`SAID`."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        said = any(f'exitcode: {code})' in message for code in SAID)
        return not said and 'closing signal SIGTERM' not in message


def what_happened(rank: int, exit_code: int, pid: int) -> str:
    """The process that went first, in one sentence; the others failed because it was gone."""
    if exit_code >= 0:
        how = f'ended with exit code {exit_code}: what it said is above, marked [rank{rank}]'
    else:
        try:
            name = signal.Signals(-exit_code).name
        except ValueError:
            name = f'signal {-exit_code}'
        often = ', as the system does when memory runs out' if name == 'SIGKILL' else ''
        how = f'was killed by {name}{often}'
    return f'error: rank {rank} (process {pid}) {how}. The other ranks cannot go on without it and were ended too.'


def main() -> None:
    """Starts the processes and waits for them."""
    for name in ('torch.distributed.elastic.agent.server.api', 'torch.distributed.elastic.multiprocessing.api'):
        logging.getLogger(name).addFilter(_MistakesAreSaid())
    # The processes find mstkit also where it is not installed.
    os.environ['PYTHONPATH'] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get('PYTHONPATH'))))
    options = dict(nnodes='NNODES', node_rank='NODE_RANK', master_addr='MASTER_ADDR', master_port='PORT')
    defaults = dict(nnodes='1', node_rank='0', master_addr='127.0.0.1', master_port='29500')
    words = [f'--{name.replace("_", "-")}={os.environ.get(key) or defaults[name]}' for name, key in options.items()]
    try:
        run(parse_args([*words, f'--nproc-per-node={sys.argv[1]}', *sys.argv[2:]]))
    except ChildFailedError as error:
        for code in SAID:
            if any(failure.exitcode == code for failure in error.failures.values()):
                sys.exit(code)
        rank, failure = error.get_first_failure()
        print(what_happened(rank, failure.exitcode, failure.pid), file=sys.stderr, flush=True)
        sys.exit(1)


if __name__ == '__main__':
    main()
