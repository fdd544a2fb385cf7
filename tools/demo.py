"""Pre-trains MST on the built-in images, and writes a report: ``python tools/demo.py``, which is ``mstkit demo``."""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

from mstkit.commands.demo_command import main

if __name__ == '__main__':
    main()
