"""Measures J&F on DAVIS 2017 without training.

``python tools/evaluation/video_segmentation.py`` is ``mstkit video-segmentation``.
"""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

from mstkit.commands.video_segmentation_command import main

if __name__ == '__main__':
    main()
