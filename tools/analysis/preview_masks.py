"""Draws masks of masking strategies: ``python tools/analysis/preview_masks.py``, which is ``mstkit masks``."""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

from mstkit.commands.masks_command import main

if __name__ == '__main__':
    main()
