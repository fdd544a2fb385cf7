"""Evaluates networks with a suite of evaluations.

``python tools/evaluation/evaluate.py`` is ``mstkit evaluate``.
"""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

from mstkit.commands.evaluate_command import main

if __name__ == '__main__':
    main()
