"""Measures mAP on revisited Oxford or Paris.

``python tools/evaluation/retrieval.py`` is ``mstkit retrieval``.
"""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

from mstkit.commands.retrieval_command import main

if __name__ == '__main__':
    main()
