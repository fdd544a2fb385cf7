"""Repeats a run that diverged and finds its first NaN: ``mstkit replay FILE``.

FILE is the non_finite.json that the run has left in its work dir. Its steps are repeated from the last good checkpoint,
while every weight, output, gradient and loss is looked at, in the order of the computation. Nothing is written.
"""

from __future__ import annotations

import argparse
import os

import mstkit.downstream  # noqa: F401  (mmcv's operators, for configs of mmdet and mmseg)
from mstkit.engine.launch.command_line import add_launcher_argument
from mstkit.engine.launch.replay import replay
from mstkit.engine.parallel.distributed import rank_zero_speaks
from mstkit.errors import exit_cleanly

GROUP = 'train'  # of mstkit --help


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('file', metavar='FILE', help='non_finite.json in the work dir of the run')
    add_launcher_argument(parser)
    return parser.parse_args()


@exit_cleanly
def main() -> None:
    """Repeats the steps and prints what was found."""
    args = parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    with rank_zero_speaks():
        print(replay(args.file, args.launcher))
