"""Measures depth on frozen patch tokens: ``python tools/evaluation/depth.py`` is ``mstkit depth``."""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

from mstkit.commands.depth_command import main

if __name__ == '__main__':
    main()
