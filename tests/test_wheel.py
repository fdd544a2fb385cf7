"""What ``python -m build`` makes: a wheel that works outside of a clone, by way of a source distribution."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mstkit.version import __version__

from .programs import ROOT

pytestmark = pytest.mark.slow
TRACKED = ('configs', 'tools', 'mstkit')


@pytest.fixture(scope='module')
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of both distributions, the wheel made from the source distribution."""
    pytest.importorskip('build', reason='the package build makes them')
    out = tmp_path_factory.mktemp('dist')
    words = [sys.executable, '-m', 'build', '--no-isolation', '--outdir', str(out), str(ROOT)]
    before = sorted((ROOT / 'mstkit').glob('*'))
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert sorted((ROOT / 'mstkit').glob('*')) == before, 'nothing is left in the clone'
    yield out


@pytest.fixture(scope='module')
def wheel(built: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(built / f'mstkit-{__version__}-py3-none-any.whl')


def files_of(folder: str) -> set[str]:
    """What of a folder travels, relative to the repository."""
    found = (path for path in (ROOT / folder).rglob('*') if path.is_file() and '.mim' not in path.parts)
    return {path.relative_to(ROOT).as_posix() for path in found if path.suffix != '.pyc'}


def test_the_wheel_has_every_file(wheel):
    names = set(wheel.namelist())
    assert files_of('mstkit') <= names
    carried = {f'mstkit/.mim/{name}' for name in files_of('configs') | files_of('tools')}
    assert len(carried) > 150
    assert carried <= names
    assert {name for name in names if '/.mim/' in name} == {*carried, 'mstkit/.mim/model-index.yml'}
    assert 'mstkit/report/templates/style.css' in names
    assert 'mstkit_waiting.py' in names
    licenses = {name.rpartition('/')[2] for name in names if '.dist-info/' in name}
    assert {'LICENSE', 'NOTICE', 'METADATA', 'entry_points.txt'} <= licenses
    assert not any(name.startswith(('tests/', 'configs/', 'tools/', 'docs/', 'build/')) for name in names)


def test_the_metadata(wheel):
    (name,) = [name for name in wheel.namelist() if name.endswith('/METADATA')]
    text = wheel.read(name).decode()
    for line in ('Name: mstkit', f'Version: {__version__}', 'License: Apache-2.0', 'Requires-Python: >=3.10'):
        assert f'{line}\n' in text
    assert 'Requires-Dist: torch' in text
    (points,) = [name for name in wheel.namelist() if name.endswith('/entry_points.txt')]
    assert wheel.read(points).decode().split() == ['[console_scripts]', 'mstkit', '=', 'mstkit.__main__:main']


def test_the_source_distribution_is_the_project(built):
    with tarfile.open(built / f'mstkit-{__version__}.tar.gz') as archive:
        names = {name.partition('/')[2] for name in archive.getnames()}
    wanted = files_of('configs') | files_of('tools') | files_of('requirements')
    assert wanted | {'LICENSE', 'NOTICE', 'README.md', 'setup.py', 'model-index.yml', 'mstkit_waiting.py'} <= names


def test_commands_run_from_the_wheel_alone(wheel, tmp_path):
    """From another folder, with nothing of the clone on the path."""
    wheel.extractall(tmp_path / 'site')
    (tmp_path / 'empty').mkdir()

    def run(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, '-m', 'mstkit', *words],
            cwd=tmp_path / 'empty',
            env={**os.environ, 'PYTHONPATH': str(tmp_path / 'site')},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    listed = run('configs', 'mst_vit-tiny_folder')
    assert f'{tmp_path}/site/mstkit/.mim/configs/mst/mst_vit-tiny_folder.py\n' in listed
    assert 'mstkit train mst/mst_vit-tiny_folder --data-root DIR\n' in listed
    planned = run('ablate', 'demo/mst_vit-nano_scenes', '--vary', 'model.masker=none,mst', '--dry-run')
    assert '2 cells: 2 choices, 1 seeds' in planned
    assert list((tmp_path / 'empty').iterdir()) == []
