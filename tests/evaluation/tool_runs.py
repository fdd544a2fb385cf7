"""Runs a tool of tools/evaluation in this process, on a small random network."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from mstkit.errors import exit_cleanly
from tests.programs import load_program

CONFIG = """
backbone = dict(
    type='MaskedVisionTransformer',
    arch=dict(embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=48),
    img_size=32,
    patch_size=8,
)
model = dict(type='DINO', backbone=backbone)
data_preprocessor = dict(type='SelfSupDataPreprocessor', mean=[120.0] * 3, std=[60.0] * 3)
"""


def load_tool(name: str) -> ModuleType:
    """The module of ``tools/evaluation/NAME.py``."""
    return load_program(f'tools/evaluation/{name}.py')


def run_tool(tool: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Runs ``main`` with these words; returns the exit code."""
    monkeypatch.setattr(sys, 'argv', [tool.__name__, *map(str, arguments), '--device', 'cpu'])
    try:
        exit_cleanly(tool.main)()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def write_config(folder: Path) -> str:
    """A source that opens a small random ViT with patches of 8 px, for images of 32 px."""
    path = folder / 'tiny.py'
    path.write_text(CONFIG)
    return f'random:{path}'
