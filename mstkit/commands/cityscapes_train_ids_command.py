"""Creates label maps for training on Cityscapes: ``mstkit cityscapes-train-ids DIR``.

DIR is the folder into which gtFine_trainvaltest.zip was unpacked. Beside every *_gtFine_labelIds.png in DIR/gtFine it
writes *_gtFine_labelTrainIds.png with the ids 0 to 18 of the 19 trained classes, and 255 elsewhere. The same command
continues after an interruption.
"""

from __future__ import annotations

import argparse
import os

from mstkit.downstream.cityscapes_ids import write_train_ids
from mstkit.errors import exit_cleanly
from mstkit.utils.checks import check_count

GROUP = 'files'  # of mstkit --help


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('root', metavar='DIR', help='the folder of Cityscapes, with gtFine in it')
    parser.add_argument(
        '--jobs', type=int, default=min(4, os.cpu_count() or 1), metavar='N', help='files at a time; %(default)s here'
    )
    return parser.parse_args()


@exit_cleanly
def main() -> None:
    """Converts the label maps, and prints their number."""
    args = parse_args()
    check_count('--jobs', args.jobs, 1)
    written = write_train_ids(args.root, args.jobs)
    print(f'{written.new} label maps written, {written.already} were there already')
