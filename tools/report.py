"""Writes a run as one HTML page: ``python tools/report.py``, which is ``mstkit report``."""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

from mstkit.commands.report_command import main

if __name__ == '__main__':
    main()
