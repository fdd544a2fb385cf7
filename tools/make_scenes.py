"""Writes the built-in scenes as files for detection and segmentation.

``python tools/make_scenes.py`` is ``mstkit make-scenes``.
"""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

from mstkit.commands.make_scenes_command import main

if __name__ == '__main__':
    main()
