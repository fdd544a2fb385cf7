"""Measures a checkpoint with the data sets of its config: ``python tools/test.py``, which is ``mstkit test``."""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

from mstkit.commands.test_command import main

if __name__ == '__main__':
    main()
