"""Trains a model from a config: ``python tools/train.py``, which is ``mstkit train``."""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

from mstkit.commands.train_command import main

if __name__ == '__main__':
    main()
