"""Measures accuracy on exchanged backgrounds.

``python tools/evaluation/backgrounds.py`` is ``mstkit backgrounds``.
"""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

from mstkit.commands.backgrounds_command import main

if __name__ == '__main__':
    main()
