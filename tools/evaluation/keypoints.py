"""Measures keypoints on frozen patch tokens: ``python tools/evaluation/keypoints.py`` is ``mstkit keypoints``."""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

from mstkit.commands.keypoints_command import main

if __name__ == '__main__':
    main()
