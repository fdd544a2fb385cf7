"""Draws k-NN accuracy over epochs of one or more runs.

``python tools/analysis/plot_knn.py`` is ``mstkit plot-knn``.
"""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

from mstkit.commands.plot_knn_command import main

if __name__ == '__main__':
    main()
