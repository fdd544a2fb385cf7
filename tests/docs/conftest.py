"""The reader's folder: the project's configs, and the files that the documentation tells to make."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mstkit.registry import EVALUATORS, MODELS

from .pages import ROOT, named_files


@pytest.fixture(scope='package')
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder, importable; what was imported from it is forgotten afterwards."""
    folder = tmp_path_factory.mktemp('project')
    shutil.copytree(ROOT / 'configs', folder / 'configs')
    for name, body in named_files().items():
        (folder / name).write_text(body, encoding='utf-8')
    for name in ('DIR', 'data/imagenet', 'lists'):
        (folder / name).mkdir(parents=True)
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))
    for module in [name for name in sys.modules if f'{name}.py' in named_files()]:
        del sys.modules[module]
    MODELS.module_dict.pop('CheckerboardMasker', None)
    EVALUATORS.module_dict.pop('class_means', None)


@pytest.fixture
def inside(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder as the current one."""
    monkeypatch.chdir(project)
    return project
