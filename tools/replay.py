"""Repeats the steps of a run that diverged: ``python tools/replay.py``, which is ``mstkit replay``."""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

from mstkit.commands.replay_command import main

if __name__ == '__main__':
    main()
