"""Follows boxes through videos without training: ``python tools/evaluation/tracking.py`` is ``mstkit tracking``."""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

from mstkit.commands.tracking_command import main

if __name__ == '__main__':
    main()
