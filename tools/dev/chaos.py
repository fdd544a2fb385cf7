"""Breaks trainings on purpose and counts what survives: ``python tools/dev/chaos.py CAMPAIGN``; see tests/chaos."""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # where the tests are

from tests.chaos.command import main

if __name__ == '__main__':
    main()
