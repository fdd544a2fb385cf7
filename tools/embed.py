"""Writes the features of a folder of images to a file: ``python tools/embed.py``, which is ``mstkit embed``."""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

from mstkit.commands.embed_command import main

if __name__ == '__main__':
    main()
