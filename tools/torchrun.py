"""torchrun with the exit codes of our tools: ``python tools/torchrun.py PROCESSES SCRIPT ARGUMENTS``.

For several machines, set NNODES, NODE_RANK, MASTER_ADDR and PORT in the environment. torchrun itself always exits with
1 and its own traceback. Here, an error that rank 0 has already reported (exit code 2: a user's mistake, 3: a training
that has to stop) gives the same exit code without a traceback. If a process crashes or is killed, the others are ended
within seconds, and the last line names the process that failed first.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run

REPORTED = (2, 3)  # mstkit.errors.USAGE_EXIT and STOPPED_EXIT, not imported because importing mstkit takes seconds
ROOT = Path(__file__).resolve().parent.parent


class _ReportedErrorsFilter(logging.Filter):
    """Drops torchrun's own lines about a process that exited with one of :data:`REPORTED`."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        said = any(f'exitcode: {code})' in message for code in REPORTED)
        return not said and 'closing signal SIGTERM' not in message


def what_happened(rank: int, exit_code: int, pid: int) -> str:
    """A sentence about the process that failed first, because of which the others failed."""
    if exit_code >= 0:
        how = f'ended with exit code {exit_code}: its error is above, marked [rank{rank}]'
    else:
        try:
            name = signal.Signals(-exit_code).name
        except ValueError:
            name = f'signal {-exit_code}'
        often = ', which the system does when memory runs out' if name == 'SIGKILL' else ''
        how = f'was killed by {name}{often}'
    return f'error: rank {rank} (process {pid}) {how}. The other ranks cannot continue without it and were ended too.'


def main() -> None:
    """Starts the processes and waits for them."""
    for name in ('torch.distributed.elastic.agent.server.api', 'torch.distributed.elastic.multiprocessing.api'):
        logging.getLogger(name).addFilter(_ReportedErrorsFilter())
    # So that the processes find mstkit even if it is not installed.
    os.environ['PYTHONPATH'] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get('PYTHONPATH'))))
    options = dict(nnodes='NNODES', node_rank='NODE_RANK', master_addr='MASTER_ADDR', master_port='PORT')
    defaults = dict(nnodes='1', node_rank='0', master_addr='127.0.0.1', master_port='29500')
    words = [f'--{name.replace("_", "-")}={os.environ.get(key) or defaults[name]}' for name, key in options.items()]
    try:
        run(parse_args([*words, f'--nproc-per-node={sys.argv[1]}', *sys.argv[2:]]))
    except ChildFailedError as error:
        for code in REPORTED:
            if any(failure.exitcode == code for failure in error.failures.values()):
                sys.exit(code)
        rank, failure = error.get_first_failure()
        print(what_happened(rank, failure.exitcode, failure.pid), file=sys.stderr, flush=True)
        sys.exit(1)


if __name__ == '__main__':
    main()
