"""How idle threads wait: what the programs set before torch is imported, and what importing mstkit leaves alone."""

from __future__ import annotations

import mstkit_waiting
from mstkit_waiting import MARK, THEIRS, TURN, how_threads_wait, length_of_turns, take_turns_of, wait_shortly

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .programs import load_program

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted([*(ROOT / 'tools').rglob('*.py'), *(ROOT / 'benchmarks').rglob('*.py')])
PROGRAMS = [path for path in FILES if "__name__ == '__main__'" in path.read_text(encoding='utf-8')]
# It computes nothing itself, and finds mstkit for the processes that it starts, which are programs, where that is not
# installed.
STARTER = ROOT / 'tools' / 'torchrun.py'


def place(path):
    return path.relative_to(ROOT).as_posix()


def imports(path):
    """The modules that a program imports when it is run, in order."""
    for node in ast.parse(path.read_text(encoding='utf-8')).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
        elif isinstance(node, ast.If | ast.Try | ast.With):
            inner = [one for one in ast.walk(node) if isinstance(one, ast.Import | ast.ImportFrom)]
            yield from (f'inside a statement, line {one.lineno}' for one in inner)


def loads_torch(path):
    """It imports more than Python's own library."""
    return any(name.split('.')[0] not in sys.stdlib_module_names for name in imports(path))


@pytest.mark.parametrize('path', PROGRAMS, ids=place)
def test_a_program_sets_it_before_anything_that_could_import_torch(path):
    if path == STARTER or not loads_torch(path):
        assert 'mstkit_waiting' not in imports(path)
        return
    assert next(name for name in imports(path) if name != '__future__') == 'mstkit_waiting'


def test_programs_are_found():
    found = {place(path) for path in PROGRAMS}
    assert {'tools/train.py', 'tools/evaluation/knn.py', 'benchmarks/train_step.py'} <= found
    assert loads_torch(ROOT / 'tools' / 'train.py')


def test_the_module_needs_the_standard_library_alone():
    assert not loads_torch(Path(mstkit_waiting.__file__))


def run(*words, **environment):
    """Of a fresh interpreter in which the user has set nothing but ``environment``."""
    clean = {name: value for name, value in os.environ.items() if name not in (*THEIRS, MARK)}
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', *words],
        cwd=ROOT,
        env={**clean, 'PYTHONPATH': str(ROOT), **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize(
    ('environment', 'spins'),
    [
        ({}, '3000'),
        ({'GOMP_SPINCOUNT': '70'}, '70'),
    ],
    ids=['of the command', 'of the user'],
)
@pytest.mark.skipif(sys.platform != 'linux', reason='libgomp, which can be asked, is that of the Linux wheels')
def test_the_library_takes_it(environment, spins):
    code = 'import mstkit_waiting, os, torch; print(mstkit_waiting.how_threads_wait(os.environ))'
    done = run('-c', code, OMP_DISPLAY_ENV='verbose', **environment)
    assert f"GOMP_SPINCOUNT = '{spins}'" in done.stderr
    whose = 'idle threads wait as the environment says' if environment else 'idle threads soon sleep'
    assert done.stdout.startswith(f'{whose} (GOMP_SPINCOUNT={spins}')


def test_importing_mstkit_sets_nothing(tmp_path):
    """Of the rooms, tests/test_dependencies.py says so, where they are all imported."""
    found = f'import os; print([name for name in os.environ if name in {(*THEIRS, MARK)}])'
    assert run('-c', f'import mstkit; {found}').stdout == '[]\n'
    (tmp_path / 'torch.py').touch()
    paths = os.pathsep.join((str(tmp_path), str(ROOT)))
    there = run('-c', f'import torch, mstkit_waiting; {found}', PYTHONPATH=paths)
    assert there.stdout == '[]\n', 'it does nothing where torch was there before'
    assert run('-c', f'import mstkit_waiting, torch; {found}', PYTHONPATH=paths).stdout != '[]\n'


def test_a_module_that_is_run_as_a_command_sets_it(tmp_path):
    """Before torch is imported, for which a module stands that says what it finds, and ends the command."""
    (tmp_path / 'torch.py').write_text('import os, sys\nsys.exit(print(os.environ.get("GOMP_SPINCOUNT")))\n')
    paths = os.pathsep.join((str(tmp_path), str(ROOT)))
    assert run('-m', 'mstkit.toolbox', '--help', PYTHONPATH=paths).stdout == '3000\n'


@pytest.mark.parametrize('name', [*THEIRS, MARK])
@pytest.mark.parametrize('value', ['', '7'])
def test_what_the_user_set_wins(name, value):
    environment = {name: value}
    wait_shortly(environment)
    assert environment == {name: value}
    said = how_threads_wait(environment)
    assert 'set by the command' not in said
    assert (f'{name}={value}' in said) == (name != MARK)


def test_a_process_that_a_command_started_knows_who_chose():
    environment = {'PATH': 'x'}
    wait_shortly(environment)
    before = dict(environment)
    wait_shortly(environment)
    assert environment == before == {'PATH': 'x', 'GOMP_SPINCOUNT': '3000', MARK: 'short'}
    assert how_threads_wait(environment) == (
        'idle threads soon sleep (GOMP_SPINCOUNT=3000, set by the command; OMP_WAIT_POLICY, GOMP_SPINCOUNT or '
        'KMP_BLOCKTIME of your own wins)'
    )
    environment['GOMP_SPINCOUNT'] = '7'  # by a script in between
    assert how_threads_wait(environment) == 'idle threads wait as the environment says (GOMP_SPINCOUNT=7)'
    assert how_threads_wait({}) == 'idle threads wait as the OpenMP library has it (GOMP_SPINCOUNT is not set)'


@pytest.fixture(scope='module')
def turns():
    """Other turns can be had: on Linux from 6.12 on, where nothing forbids it."""
    code = f'import mstkit_waiting; print(mstkit_waiting.take_turns_of({TURN}))'
    if run('-c', code, MSTKIT_WAITING='library').stdout == 'False\n':
        pytest.skip('Linux gives no other turns here')


@pytest.mark.usefixtures('turns')
def test_turns_are_short_in_commands_and_what_they_start():
    asked = 'import mstkit_waiting as it; print(it.length_of_turns(), it.how_long_turns_are() != "")'
    assert run('-c', asked).stdout == f'{TURN} True\n'
    usual = run('-c', asked, MSTKIT_WAITING='library').stdout.split()
    assert usual[0] != str(TURN) and usual[1] == 'False'
    child = f'import subprocess, sys; subprocess.run([sys.executable, "-c", {asked!r}])'
    paths = dict(PYTHONPATH=str(ROOT), MSTKIT_WAITING='library')
    assert run('-c', f'import os, mstkit_waiting; os.environ.update({paths}); {child}').stdout == f'{TURN} True\n'
    thread = (
        'import threading; t = threading.Thread(target=lambda: print(it.length_of_turns(threading.get_native_id())))'
    )
    assert run('-c', f'import mstkit_waiting as it; {thread}; t.start(); t.join()').stdout == f'{TURN}\n'


@pytest.mark.usefixtures('turns')
def test_other_turns_and_the_usual_ones_again():
    words = 'it.take_turns_of(0), it.length_of_turns(), it.take_turns_of(10**6), it.length_of_turns()'
    found = run('-c', f'import mstkit_waiting as it; print({words})').stdout.split()
    assert found[0] == 'True' and int(found[1]) > TURN and found[2:] == ['True', '1000000']
    nice = 'import os; os.nice(3); import mstkit_waiting as it; print(os.nice(0), it.length_of_turns())'
    assert run('-c', nice).stdout == f'3 {TURN}\n', 'niceness stays'


@pytest.mark.usefixtures('turns')
def test_a_policy_that_somebody_chose_stays():
    code = 'import os; os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0)); import mstkit_waiting as it; '
    code += f'print(it.take_turns_of({TURN}), it.length_of_turns(), os.sched_getscheduler(0) == os.SCHED_BATCH)'
    assert run('-c', code).stdout == 'False None True\n'


def test_where_nothing_is_said_of_turns(monkeypatch):
    monkeypatch.setattr(mstkit_waiting, '_SET_AND_GET', {})
    assert length_of_turns() is None and not take_turns_of(TURN)
    assert mstkit_waiting.how_long_turns_are() == ''


def test_the_benchmark_gives_each_contestant_its_own_environment():
    benchmark = load_program('benchmarks/waiting.py')
    present = {'PATH': 'x', 'OMP_WAIT_POLICY': 'ACTIVE', 'GOMP_SPINCOUNT': '3'}
    sleeping = benchmark.environment_of('short', present)
    spinning = benchmark.environment_of('library', present)
    assert sleeping == {'PATH': 'x', 'GOMP_SPINCOUNT': '3000', MARK: 'short'}
    wait_shortly(spinning)  # as the contestant does, which imports the program anew
    assert spinning == {'PATH': 'x', MARK: 'library'}
    one = benchmark.summary({'short': [1.0, 2.0, 4.0], 'library': [3.0, 4.0, 4.0]})
    assert one['library_over_short'] == 2.0
    assert one['seconds'] == {'short': 2.0, 'library': 4.0}
