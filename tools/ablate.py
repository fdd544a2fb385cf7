"""Compares variants of a config over seeds: ``python tools/ablate.py``, which is ``mstkit ablate``."""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

from mstkit.commands.ablate_command import main

if __name__ == '__main__':
    main()
