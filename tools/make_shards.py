"""Writes a folder of images as tar shards: ``python tools/make_shards.py``, which is ``mstkit make-shards``."""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

from mstkit.commands.make_shards_command import main

if __name__ == '__main__':
    main()
