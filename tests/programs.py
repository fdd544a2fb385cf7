"""Programs of tools/ and benchmarks/ as modules."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


def load_program(path: str) -> ModuleType:
    """The module of a program, such as ``tools/evaluation/knn.py``; its ``main`` does not run."""
    file = ROOT / path
    spec = importlib.util.spec_from_file_location(f'{file.parent.name}_{file.stem}_program', file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(file.parent)  # where a program finds its neighbours
        sys.modules[spec.name] = module  # where a dataclass of it looks
        spec.loader.exec_module(module)
    return module
