"""Checks the installation, and prints the commands that repair it: ``mstkit doctor``.

It works even if torch or mmpretrain is missing or broken. The exit code is 1 if pre-training could not run, else 0.
"""

from __future__ import annotations

import argparse
import sys

from mstkit import doctor

GROUP = 'help'  # of mstkit --help


def parse_args() -> argparse.Namespace:
    """Reads the command line, which has no arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    return parser.parse_args()


def main() -> None:
    """Examines, prints, and exits with the result."""
    parse_args()
    sys.exit(doctor.main())
