"""Packaging and the road from a fresh clone: setup.py, the Makefile, tools/setup_venv.py, .ci/run.

Nothing is installed here: ``.venv/bin/python`` of a copy of the project is a stub that writes down its calls of pip.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import setuptools

from mstkit.version import __version__

ROOT = Path(__file__).resolve().parents[1]
NO_NETWORK = "WARNING: Retrying after connection broken by 'NewConnectionError(... Connection refused)'"

needs_make = pytest.mark.skipif(shutil.which('make') is None, reason='make is not installed')


def lines_of(name: str) -> list[str]:
    text = (ROOT / 'requirements' / f'{name}.txt').read_text(encoding='utf-8')
    return [line for line in text.splitlines() if line and not line.startswith('#')]


@pytest.fixture
def packaging(monkeypatch: pytest.MonkeyPatch) -> dict:
    """The arguments that setup.py gives to setuptools."""
    seen: dict = {}
    monkeypatch.setattr(setuptools, 'setup', lambda **arguments: seen.update(arguments))
    monkeypatch.chdir(ROOT)
    runpy.run_path(str(ROOT / 'setup.py'))
    return seen


def test_setup_reads_the_requirement_files(packaging: dict) -> None:
    assert packaging['install_requires'] == lines_of('runtime')
    extras = packaging['extras_require']
    assert sorted(extras) == ['all', 'docs', 'shards', 'tests', 'tracking']
    for name in ('tests', 'docs', 'tracking', 'shards'):
        assert extras[name] == lines_of(name)
    assert set(extras['all']) == {*extras['tests'], *extras['docs'], *extras['tracking'], *extras['shards']}
    assert packaging['version'] == __version__
    assert packaging['python_requires'] == '>=3.10'


def test_runtime_requirements_are_lower_bounds_only() -> None:
    for line in lines_of('runtime'):
        assert re.fullmatch(r'[a-z][a-z0-9-]*>=[0-9.]+', line), line


def test_every_folder_of_the_package_is_packed(packaging: dict) -> None:
    folders = {file.parent.relative_to(ROOT) for file in (ROOT / 'mstkit').rglob('*.py')}
    assert set(packaging['packages']) == {'.'.join(folder.parts) for folder in folders}
    assert 'py.typed' in packaging['package_data']['mstkit']
    assert (ROOT / 'mstkit' / 'py.typed').is_file()


def test_every_file_of_the_package_is_packed(packaging: dict, tmp_path: Path) -> None:
    command = setuptools.Distribution(packaging).get_command_obj('build_py')
    command.distribution.script_name = 'setup.py'
    command.build_lib = str(tmp_path)
    command.ensure_finalized()
    packed = {Path(file).relative_to(tmp_path) for file in command.get_outputs(include_bytecode=False)}
    data = [file.relative_to(ROOT) for file in (ROOT / 'mstkit').rglob('*.*') if file.suffix not in ('.py', '.pyc')]
    assert Path('mstkit/report/templates/style.css') in data
    for file in data:
        assert file in packed, f'{file} is missing: setup.py, package_data'


def test_setup_imports_no_torch() -> None:
    code = 'import runpy, sys, setuptools; setuptools.setup = dict; runpy.run_path("setup.py"); '
    code += 'print("torch" in sys.modules, "mstkit" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True).stdout == (
        'False False\n'
    )


# --- the copy of the project ------------------------------------------------------------------------------------------


def write_script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding='utf-8')
    path.chmod(0o755)
    return path


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what a set-up needs, with a demo of one line and, for .venv, a stub."""
    copy = tmp_path / 'clone'
    shutil.copytree(ROOT / 'requirements', copy / 'requirements')
    for name in ('Makefile', 'setup.py', 'pyproject.toml'):
        shutil.copy(ROOT / name, copy / name)
    (copy / 'tools').mkdir()
    shutil.copy(ROOT / 'tools' / 'setup_venv.py', copy / 'tools')
    write_script(copy / 'tools' / 'demo.py', 'import sys\nprint("demo: the last line", *sys.argv[1:])\n')
    write_script(
        copy / '.venv' / 'bin' / 'python',
        f"""#!/bin/sh
if [ "$1 $2" = "-m pip" ]; then
    echo "$@" >>'{copy}/pip-calls'
    [ -z "$PIP_SAYS" ] && exit 0
    echo "$PIP_SAYS" >&2
    exit 1
fi
[ "$2" = "import cv2" ] && exit 0
exec '{sys.executable}' "$@"
""",
    )
    return copy


def pip_calls(project: Path) -> list[str]:
    calls = project / 'pip-calls'
    return calls.read_text(encoding='utf-8').splitlines() if calls.exists() else []


def make(project: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs make as a user would, also when the tests themselves were started by make."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith('MAKE') and key != 'MFLAGS'}
    clean.pop('PYTHON', None)
    command = [str(shutil.which('make')), *arguments]
    return subprocess.run(command, cwd=project, env={**clean, **environment}, capture_output=True, text=True)


def errors_of(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stderr.splitlines() if line.startswith('error:')]


@needs_make
def test_demo_installs_once_and_prints_its_line_last(project: Path) -> None:
    first = make(project, 'demo', 'DEMO_ARGS=--seed 1')
    assert first.returncode == 0, first.stderr
    assert first.stdout.splitlines()[-1] == 'demo: the last line --seed 1'
    assert len(pip_calls(project)) == 1
    assert pip_calls(project)[0].endswith('-e .')  # none of the packages of the tests
    second = make(project, 'demo')
    assert second.stdout == 'demo: the last line\n'
    assert len(pip_calls(project)) == 1


@needs_make
@pytest.mark.parametrize('name', ['requirements/runtime.txt', 'setup.py', 'pyproject.toml'])
def test_changed_requirements_are_installed(project: Path, name: str) -> None:
    make(project, 'demo')
    with (project / name).open('a') as file:
        file.write('# another\n')
    assert make(project, 'demo').returncode == 0
    assert len(pip_calls(project)) == 2


@needs_make
@pytest.mark.parametrize(
    ('said', 'advice'),
    [(NO_NETWORK, 'network connection'), ('ERROR: [Errno 28] No space left on device', 'disk'), ('ERROR: x', 'above')],
)
def test_failed_installation_is_one_sentence_and_can_be_repeated(project: Path, said: str, advice: str) -> None:
    failed = make(project, 'demo', PIP_SAYS=said)
    assert failed.returncode != 0
    assert 'demo: the last line' not in failed.stdout
    (sentence,) = errors_of(failed)
    assert advice in sentence
    assert sentence.endswith('then run "make demo" again.')
    assert make(project, 'demo').stdout.splitlines()[-1] == 'demo: the last line'
    assert len(pip_calls(project)) == 2


@needs_make
def test_failed_renewal_leaves_no_stamp(project: Path) -> None:
    make(project, 'demo')
    with (project / 'requirements' / 'runtime.txt').open('a') as file:
        file.write('another\n')
    assert make(project, 'demo', PIP_SAYS='ERROR: x').returncode != 0
    (project / 'requirements' / 'runtime.txt').write_bytes((ROOT / 'requirements' / 'runtime.txt').read_bytes())
    make(project, 'demo')
    assert len(pip_calls(project)) == 3  # what pip left half-way is not taken for the first installation


@needs_make
@pytest.mark.parametrize('newer_exists', [True, False])
def test_old_python_is_told_the_command(project: Path, newer_exists: bool) -> None:
    shutil.rmtree(project / '.venv')
    bin_folder = project / 'bin'
    pretend = 'import runpy, sys; sys.version_info = (3, 8, 18); sys.argv = sys.argv[1:]; '
    pretend += 'runpy.run_path(sys.argv[0], run_name="__main__")'
    python = f"exec '{sys.executable}'"
    old_script = f'#!/bin/sh\n[ "$1" = -c ] && {python} "$@"\n{python} -c \'{pretend}\' "$@"\n'
    old = write_script(bin_folder / 'python3.8', old_script)
    if newer_exists:
        write_script(bin_folder / 'python3.11', f'#!/bin/sh\nexec \'{sys.executable}\' "$@"\n')
    done = make(project, 'demo', f'PYTHON={old}', PATH=str(bin_folder))
    assert done.returncode != 0
    way_out = (
        'run "make demo PYTHON=python3.11"'
        if newer_exists
        else ('install Python 3.12, then run "make demo PYTHON=python3.12"')
    )
    assert errors_of(done) == [f'error: Python 3.8 is too old, mstkit needs 3.10 or newer: {way_out}.']
    assert not (project / '.venv').exists()
    assert pip_calls(project) == []


@needs_make
def test_missing_python_is_told_the_command(project: Path) -> None:
    done = make(project, 'test', 'PYTHON=python9.9')
    assert done.returncode != 0
    (sentence,) = errors_of(done)
    assert '"python9.9"' in sentence
    assert 'make test PYTHON=python3.12' in sentence


@needs_make
def test_help_is_the_default_and_names_the_targets(project: Path) -> None:
    done = make(project)
    for target in ('demo', 'test', 'lint', 'clean'):
        assert re.search(rf'^make {target} ', done.stdout, flags=re.MULTILINE)
    assert pip_calls(project) == []


# --- tools/setup_venv.py by itself ------------------------------------------------------------------------------------


@pytest.fixture
def script(project: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location('setup_venv', project / 'tools' / 'setup_venv.py')
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_groups_become_extras(project: Path, script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, 'argv', ['setup_venv.py', 'runtime'])
    assert script.main() == 0
    monkeypatch.setattr(sys, 'argv', ['setup_venv.py', 'runtime', 'tests'])
    assert script.main() == 0
    assert script.main() == 0
    assert [call.split()[-1] for call in pip_calls(project)] == ['.', '.[tests]']


@pytest.mark.parametrize(('chosen', 'made'), [(True, 1), (False, 0)])
def test_another_python_makes_the_environment_again(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, chosen: bool, made: int
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(script, 'version_of', lambda python: (3, 99))
    monkeypatch.setattr(script, 'create_venv', lambda: calls.append(1))
    script.ensure_venv('demo', chosen)
    assert len(calls) == made


def test_environment_without_pip_is_made_again(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    real = script.ask
    monkeypatch.setattr(script, 'ask', lambda python, code: None if code == 'import pip' else real(python, code))
    monkeypatch.setattr(script, 'create_venv', lambda: calls.append(1))
    script.ensure_venv('demo', False)
    assert calls == [1]


def test_python_without_venv_module(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, 'ask', lambda python, code: None)
    with pytest.raises(script.SetupError, match=r'python3\.\d+-venv"\), then run "make test" again\.$'):
        script.check_interpreter('test')


def test_opencv_without_libgl_is_replaced(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    installed: list[list[str]] = []
    monkeypatch.setattr(script, 'ask', lambda python, code: None if code == 'import cv2' else '4.12.0.88')
    monkeypatch.setattr(script, 'pip_install', lambda arguments: installed.append(arguments))
    script.ensure_cv2()
    assert installed == [['--force-reinstall', '--no-deps', 'opencv-python-headless==4.12.0.88']]


def test_script_is_readable_by_an_old_python() -> None:
    ast.parse((ROOT / 'tools' / 'setup_venv.py').read_text(encoding='utf-8'), feature_version=(3, 6))


# --- .ci/run ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('status', [0, 2])
def test_ci_ends_with_pytests_line_and_passes_the_status_on(tmp_path: Path, status: int) -> None:
    fails = "echo 'make: *** [Makefile:41: test] Error 1' >&2\n" if status else ''
    write_script(tmp_path / 'bin' / 'make', f'#!/bin/sh\necho "asked for $*"\necho "5 passed"\n{fails}exit {status}\n')
    environment = {**os.environ, 'PATH': f'{tmp_path / "bin"}{os.pathsep}{os.environ["PATH"]}'}
    command = [str(ROOT / '.ci' / 'run')]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == status
    assert done.stdout.splitlines() == ['asked for --no-print-directory test', '5 passed']
