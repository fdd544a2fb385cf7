"""The reader's folder: the project's configs, and the files that the documentation tells to make."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mstkit import registry as registries

from .pages import ROOT, named_files, registered_by_the_pages


@pytest.fixture(scope='package')
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder, importable; what was imported from it is forgotten afterwards.

    What the pages register under a name is theirs meanwhile, also where somebody has followed a page in mstkit itself.
    """
    folder = tmp_path_factory.mktemp('project')
    shutil.copytree(ROOT / 'configs', folder / 'configs')
    for name, body in named_files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(body, encoding='utf-8')
    for name in ('DIR', 'data/imagenet', 'lists'):
        (folder / name).mkdir(parents=True)
    registered = [(getattr(registries, registry), name) for registry, name in registered_by_the_pages()]
    own = [registry.module_dict.pop(name, None) for registry, name in registered]
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))
    for file in named_files():  # not once for each of thousands of modules: it reads all pages
        sys.modules.pop(file.removesuffix('.py'), None)
    for (registry, name), cls in zip(registered, own, strict=True):
        registry.module_dict.pop(name, None)
        if cls is not None:
            registry.module_dict[name] = cls


@pytest.fixture(scope='session')
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site. It is built by a process of its own, as ``make docs`` does, once."""
    pytest.importorskip(
        'sphinx', reason='the site needs the packages of requirements/docs.txt: make docs installs them'
    )
    out = tmp_path_factory.mktemp('site')
    command = [sys.executable, str(ROOT / 'docs' / 'build.py'), '--out', str(out)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=out)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == f'docs: {out / "html" / "index.html"}'
    return out / 'html'


@pytest.fixture
def inside(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder as the current one."""
    monkeypatch.chdir(project)
    return project
