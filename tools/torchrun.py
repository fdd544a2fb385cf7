"""torchrun with the exit codes of our tools: ``python tools/torchrun.py TORCHRUN-ARGUMENTS tools/train.py ...``.

torchrun itself exits with 1 and a traceback of its own, whatever its processes said; here a user's mistake, about
which rank 0 has already printed its sentence, exits with 2.
"""

from __future__ import annotations

import logging
import sys

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run

USER_MISTAKE = 2


class _MistakesAreSaid(logging.Filter):
    """Drops torchrun's own lines about a process that exited with :data:`USER_MISTAKE`."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        return f'exitcode: {USER_MISTAKE})' not in message and 'closing signal SIGTERM' not in message


def main() -> None:
    """Starts the processes and waits for them."""
    for name in ('torch.distributed.elastic.agent.server.api', 'torch.distributed.elastic.multiprocessing.api'):
        logging.getLogger(name).addFilter(_MistakesAreSaid())
    try:
        run(parse_args(None))
    except ChildFailedError as error:
        if any(failure.exitcode == USER_MISTAKE for failure in error.failures.values()):
            sys.exit(USER_MISTAKE)
        raise


if __name__ == '__main__':
    main()
