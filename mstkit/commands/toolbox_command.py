"""Runs a tool of mmdet, mmseg or mmpretrain: ``mstkit toolbox mmdet test CONFIG CHECKPOINT``."""

from __future__ import annotations

from mstkit.toolbox import main

GROUP = 'help'  # of mstkit --help

__all__ = ['GROUP', 'main']
