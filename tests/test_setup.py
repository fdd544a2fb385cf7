"""Packaging and the road from a fresh clone: setup.py, the Makefile, .ci/run.

Nothing is installed here: ``.venv/bin/python`` of a copy of the project is a stub that writes down its calls of pip.
"""

from __future__ import annotations

import ast
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

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
    assert sorted(extras) == ['all', 'convert', 'docs', 'parquet', 'shards', 'tests', 'tracking']
    for name in ('tests', 'docs', 'tracking', 'shards', 'convert', 'parquet'):
        assert extras[name] == lines_of(name)
    parts = ('tests', 'docs', 'tracking', 'shards', 'convert', 'parquet')
    assert set(extras['all']) == {line for name in parts for line in extras[name]}
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
    data = [file for file in data if '.mim' not in file.parts]  # links of an editable installation
    there = [file.relative_to(ROOT) for name in ('configs', 'tools') for file in (ROOT / name).rglob('*.*')]
    there = [file for file in there if file.suffix != '.pyc']
    assert len(there) > 150
    data += [Path('mstkit/.mim', file) for file in (*there, 'model-index.yml')]
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
    write_script(copy / 'tools' / 'demo.py', 'import sys\nprint("demo: the last line", *sys.argv[1:])\n')
    write_script(copy / '.venv' / 'bin' / 'python', stub(copy))
    return copy


def stub(project: Path) -> str:
    """A Python that installs nothing; its version, pip and cv2 are as the environment says."""
    return f"""#!/bin/sh
case "$*" in
"-m pip install"*)
    echo "$@" >>'{project}/pip-calls'
    [ -z "$PIP_SAYS" ] && exit 0
    echo "$PIP_SAYS" | tee '{project}/.venv/pip.log' >&2
    exit 1 ;;
"-m pip freeze") printf 'numpy==2.3.5\\nopencv-python==4.12.0.88\\n' ;;
"-m venv --clear .venv") echo "$@" >>'{project}/venv-calls' ; [ -z "$VENV_FAILS" ] ;;
"-c import cv2") [ -z "$NO_LIBGL" ] ;;
"-c import venv, ensurepip") [ -z "$NO_VENV_MODULE" ] ;;
"-c import pip; import sys; "*) [ -z "$NO_PIP" ] && echo "${{VENV_VERSION:-3.12}}" ;;
"-c import sys; print("*) echo "${{VERSION:-3.12}}" ;;
*) exec '{sys.executable}' "$@" ;;
esac
"""


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
    old = write_script(bin_folder / 'python3.8', '#!/bin/sh\necho 3.8\n')
    write_script(bin_folder / 'python3', '#!/bin/sh\necho 3.9\n')
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
def test_a_very_old_python_understands_the_question_for_its_version(project: Path) -> None:
    (question,) = re.findall(r"-c '\$\(2\)(.*?)' ", (project / 'Makefile').read_text(encoding='utf-8'))
    ast.parse(question, feature_version=(3, 6))


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


# --- .venv: when it is made, when something is installed --------------------------------------------------------------


@pytest.fixture
def python(project: Path) -> str:
    """An interpreter that makes no environment but says that it was asked to; of version 3.12 unless VERSION is set."""
    return str(write_script(project / 'bin' / 'python3', stub(project)))


def times_made(project: Path) -> int:
    calls = project / 'venv-calls'
    return len(calls.read_text(encoding='utf-8').splitlines()) if calls.exists() else 0


@needs_make
def test_groups_become_extras(project: Path) -> None:
    for goal in ('demo', 'lint', 'lint', 'demo'):
        make(project, goal)
    assert [call.split()[-1] for call in pip_calls(project)] == ['.', '.[tests]']


@needs_make
def test_changed_requirements_of_the_tests_are_nothing_to_the_demo(project: Path) -> None:
    make(project, 'lint')
    with (project / 'requirements' / 'tests.txt').open('a') as file:
        file.write('# another\n')
    make(project, 'demo')
    assert len(pip_calls(project)) == 1
    make(project, 'lint')
    assert [call.split()[-1] for call in pip_calls(project)] == ['.[tests]', '.[tests]']


@needs_make
def test_a_folder_that_was_moved_is_installed_again(project: Path) -> None:
    make(project, 'demo')
    moved = project.rename(project.parent / 'elsewhere')
    write_script(moved / '.venv' / 'bin' / 'python', stub(moved))
    assert make(moved, 'demo').returncode == 0
    assert len(pip_calls(moved)) == 2


@needs_make
@pytest.mark.parametrize(('chosen', 'made'), [(True, 1), (False, 0)])
def test_another_python_makes_the_environment_again(project: Path, python: str, chosen: bool, made: int) -> None:
    make(project, 'demo')
    path = f'{Path(python).parent}{os.pathsep}{os.environ["PATH"]}'
    done = make(project, 'demo', *([f'PYTHON={python}'] if chosen else []), PATH=path, VERSION='3.99')
    assert times_made(project) == made
    assert len(pip_calls(project)) == 1 + made
    assert ('.venv has Python 3.12: making it again with Python 3.99' in done.stdout) == chosen
    make(project, 'demo', f'PYTHON={python}')
    assert times_made(project) == made  # it is of the version that is named now


@needs_make
@pytest.mark.parametrize('fault', [dict(NO_PIP='yes'), dict(VENV_VERSION='3.9')], ids=['no pip', 'too old'])
def test_environment_that_cannot_be_used_is_made_again(project: Path, python: str, fault: dict[str, str]) -> None:
    make(project, 'demo')
    make(project, 'demo', f'PYTHON={python}', **fault)
    assert times_made(project) == 1
    assert len(pip_calls(project)) == 2


@needs_make
@pytest.mark.parametrize('broken', [True, False])
def test_environment_that_is_missing_or_does_not_run_is_made(project: Path, python: str, broken: bool) -> None:
    (project / '.venv' / 'bin' / 'python').unlink()
    if broken:  # as after the system's Python was replaced
        (project / '.venv' / 'bin' / 'python').symlink_to('/nowhere/python3')
    done = make(project, 'demo', f'PYTHON={python}')
    assert times_made(project) == 1
    assert 'Making .venv with Python 3.12' in done.stdout


@needs_make
def test_python_without_venv_module(project: Path, python: str) -> None:
    shutil.rmtree(project / '.venv')
    (sentence,) = errors_of(make(project, 'test', f'PYTHON={python}', NO_VENV_MODULE='yes'))
    assert re.search(r'python3\.\d+-venv"\), then run "make test" again\.$', sentence)
    assert times_made(project) == 0


@needs_make
def test_environment_that_cannot_be_made(project: Path, python: str) -> None:
    shutil.rmtree(project / '.venv')
    (sentence,) = errors_of(make(project, 'test', f'PYTHON={python}', VENV_FAILS='yes'))
    assert sentence.startswith('error: Could not make .venv: ') and sentence.endswith('then run "make test" again.')
    assert pip_calls(project) == []


@needs_make
def test_opencv_without_libgl_is_replaced(project: Path) -> None:
    assert make(project, 'demo', NO_LIBGL='yes').returncode == 0
    assert pip_calls(project)[1:] == [
        '-m pip install --force-reinstall --no-deps opencv-python-headless==4.12.0.88',
    ]


# --- .ci/run ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(('docs', 'test'), [(0, 0), (0, 2), (2, 0), (2, 1)])
def test_ci_makes_the_site_ends_with_pytests_line_and_passes_the_status_on(
    tmp_path: Path, docs: int, test: int
) -> None:
    fails = 'echo "make: *** [Makefile:41: $2] Error 1" >&2; exit'
    asked = 'echo "asked for $*"\necho "5 passed"\n'
    # The audit fails, which is of no consequence.
    makes = '[ "$2" = audit ] && exit 1\n'
    makes += f'[ "$2" = docs ] && [ {docs} != 0 ] && {{ {fails} {docs}; }}\n[ "$2" = test ] && [ {test} != 0 ] && '
    write_script(tmp_path / 'bin' / 'make', f'#!/bin/sh\n{asked}{makes}{{ {fails} {test}; }}\nexit 0\n')
    write_script(tmp_path / 'bin' / 'chromium', '#!/bin/sh\n')  # else it would be installed
    environment = {**os.environ, 'PATH': f'{tmp_path / "bin"}{os.pathsep}{os.environ["PATH"]}'}
    command = [str(ROOT / '.ci' / 'run')]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == (test or docs)
    said = [f'asked for --no-print-directory {target}' for target in ('docs', 'audit', 'test')]
    assert done.stdout.splitlines() == [line for target in said for line in (target, '5 passed')]
