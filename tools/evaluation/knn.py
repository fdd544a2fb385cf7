"""Measures the k-NN accuracy of a checkpoint: ``python tools/evaluation/knn.py``, which is ``mstkit knn``."""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

from mstkit.commands.knn_command import main

if __name__ == '__main__':
    main()
