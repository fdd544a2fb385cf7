"""Draws attention maps of networks: ``python tools/analysis/attention_maps.py``, which is ``mstkit attention-maps``."""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

from mstkit.commands.attention_maps_command import main

if __name__ == '__main__':
    main()
