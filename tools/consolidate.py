"""Converts a sharded checkpoint to a single file: ``python tools/consolidate.py``, which is ``mstkit consolidate``."""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

from mstkit.commands.consolidate_command import main

if __name__ == '__main__':
    main()
