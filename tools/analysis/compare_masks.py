"""Compares masks from the results of several ablations.

``python tools/analysis/compare_masks.py`` is ``mstkit compare-masks``.
"""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

from mstkit.commands.compare_masks_command import main

if __name__ == '__main__':
    main()
