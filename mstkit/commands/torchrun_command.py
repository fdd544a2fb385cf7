"""Starts a command in several processes, as torchrun does: ``mstkit torchrun PROCESSES train CONFIG``.

The command is train, test or replay, with its own arguments; a Python file can stand in its place. For several
machines, set NNODES, NODE_RANK, MASTER_ADDR and PORT in the environment. torchrun itself always exits with 1 and its
own traceback. Here, an error that rank 0 has already reported (exit code 2: a user's mistake, 3: a training that has to
stop, 128 and a signal's number: a signal that came) gives the same exit code without a traceback. If a process crashes
or is killed, the others are ended within seconds, and the last line names the process that failed first.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args as parse_words
from torch.distributed.run import run

from mstkit.errors import STOPPED_EXIT, USAGE_EXIT, UsageError, exit_cleanly
from mstkit.utils.noted_signals import ENDING
from mstkit.utils.shipped_files import PACKAGE, in_clone

GROUP = 'train'  # of mstkit --help

REPORTED = (USAGE_EXIT, STOPPED_EXIT, *(128 + number for number in ENDING))
COMMANDS = ('train', 'test', 'replay')  # those that know --launcher


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


def parse_args() -> argparse.Namespace:
    """Reads the command line up to what each process runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('processes', metavar='PROCESSES', help='on this machine: a number, gpu or auto')
    parser.add_argument('program', metavar='COMMAND', help=f'{", ".join(COMMANDS)} or a Python file')
    parser.add_argument('arguments', nargs=argparse.REMAINDER, metavar='ARGUMENTS', help='of the command')
    return parser.parse_args()


def program_words(program: str, arguments: Sequence[str]) -> list[str]:
    """What each process runs, in torchrun's words.

    Raises:
        UsageError: neither a file nor a command that runs in several processes.
    """
    if program.endswith('.py'):
        return [program, *arguments]
    if program not in COMMANDS:
        raise UsageError(f'{program!r} does not run in several processes: give {", ".join(COMMANDS)} or FILE.py.')
    launcher = [] if any(word.startswith('--launcher') for word in arguments) else ['--launcher', 'pytorch']
    return ['--module', 'mstkit', program, *arguments, *launcher]


@exit_cleanly
def main() -> None:
    """Starts the processes and waits for them."""
    args = parse_args()
    for name in ('torch.distributed.elastic.agent.server.api', 'torch.distributed.elastic.multiprocessing.api'):
        logging.getLogger(name).addFilter(_ReportedErrorsFilter())
    if in_clone():  # so that the processes find mstkit even if it is not installed
        os.environ['PYTHONPATH'] = os.pathsep.join(filter(None, (str(PACKAGE.parent), os.environ.get('PYTHONPATH'))))
    options = dict(nnodes='NNODES', node_rank='NODE_RANK', master_addr='MASTER_ADDR', master_port='PORT')
    defaults = dict(nnodes='1', node_rank='0', master_addr='127.0.0.1', master_port='29500')
    words = [f'--{name.replace("_", "-")}={os.environ.get(key) or defaults[name]}' for name, key in options.items()]
    try:
        run(parse_words([*words, f'--nproc-per-node={args.processes}', *program_words(args.program, args.arguments)]))
    except SignalException as error:  # passed on to the processes, which have said what they kept
        sys.exit(128 + error.sigval)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        for code in REPORTED:
            if failure.exitcode >= 0 and any(one.exitcode == code for one in error.failures.values()):
                sys.exit(code)
        print(what_happened(rank, failure.exitcode, failure.pid), file=sys.stderr, flush=True)
        sys.exit(1)
