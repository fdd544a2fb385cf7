"""The commands of ``mstkit``: found by their files, described without torch, run as their programs in tools/ are."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mstkit.commands import command_table, torchrun_command
from mstkit.commands.command_table import GROUPS, SUFFIX, commands, overview
from mstkit.errors import UsageError
from mstkit.version import __version__

from .programs import CHAOS, ROOT, command_of, load_program, run_program

FOLDER = ROOT / 'mstkit' / 'commands'
NAMES = sorted(commands())
PROMISED = ('train', 'test', 'evaluate', 'knn', 'report', 'masks', 'ablate', 'transfer', 'doctor', 'demo')
TOOLS = sorted({path.relative_to(ROOT).as_posix() for path in (ROOT / 'tools').rglob('*.py')} - {CHAOS})


def test_table_and_files_agree():
    files = {path.stem.removesuffix(SUFFIX).replace('_', '-') for path in FOLDER.glob(f'*{SUFFIX}.py')}
    assert set(NAMES) == files
    assert set(PROMISED) <= files
    others = {path.stem for path in FOLDER.glob('*.py') if not path.stem.endswith(SUFFIX)}
    assert {'__init__', 'command_table'} <= others


@pytest.mark.parametrize('name', NAMES)
def test_a_command_says_what_it_is_and_can_be_run(name):
    command = commands()[name]
    assert command.group in GROUPS
    assert re.fullmatch(r'[A-Z][^.`]*[^.` ]', command.sentence), 'a sentence, without a period'
    assert 3 <= len(command.sentence.split()) <= 14
    module = importlib.import_module(command.module)
    assert command.group == module.GROUP
    assert callable(module.main)
    first = (module.__doc__ or '').splitlines()[0]
    assert f'``mstkit {name}' in first, 'its docstring begins with how it is run'
    assert 'python tools/' not in (module.__doc__ or '')


def test_every_tool_is_a_command_and_nothing_more():
    ran = {command_of(tool) for tool in TOOLS}
    assert ran == {commands()[name].module for name in NAMES if commands()[name].module in ran}
    assert len(ran) == len(TOOLS)
    for tool in TOOLS:
        assert len((ROOT / tool).read_text(encoding='utf-8').splitlines()) <= 16, f'{tool} is thin'


def test_the_overview_has_each_command_once_under_its_group():
    lines = overview().splitlines()
    listed = [line.split()[0] for line in lines[2:] if line.startswith('  ')]
    assert sorted(listed) == NAMES
    heading = ''
    for line in lines[2:]:
        if line.endswith(':'):
            heading = line[:-1]
        elif line:
            assert GROUPS[commands()[line.split()[0]].group] == heading
            assert len(line) <= 100


def test_help_and_mistakes_load_no_torch(tmp_path):
    (tmp_path / 'torch.py').write_text('raise SystemExit("torch was imported")\n')
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join((str(tmp_path), str(ROOT)))}
    program = [sys.executable, '-m', 'mstkit']

    def answer(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*program, *words], env=environment, cwd=tmp_path, capture_output=True, text=True)

    assert answer('--help').stdout == answer().stdout == f'{overview()}\n'
    assert answer('--version').stdout == f'mstkit {__version__}\n'
    assert 'torch was imported' in answer('train', '--help').stderr
    wrong = answer('trian', 'x.py')
    assert wrong.returncode == 2
    assert wrong.stdout == ''
    assert wrong.stderr == (
        'error: mstkit has no command \'trian\'. Did you mean train? "mstkit --help" lists the commands.\n'
    )
    assert answer('--verson').stderr.startswith("error: mstkit has no option '--verson'.")


def test_how_threads_wait_is_set_before_a_command_loads_torch(tmp_path):
    (tmp_path / 'torch.py').write_text('import os, sys\nsys.exit(print(os.environ.get("GOMP_SPINCOUNT")))\n')
    clean = {name: value for name, value in os.environ.items() if name not in ('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT')}
    environment = {**clean, 'PYTHONPATH': os.pathsep.join((str(tmp_path), str(ROOT)))}
    environment.pop('MSTKIT_WAITING', None)
    environment.pop('KMP_BLOCKTIME', None)
    words = [sys.executable, '-m', 'mstkit', 'train', 'x.py']
    done = subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == '3000\n'


@pytest.mark.parametrize('tool', [tool for tool in TOOLS if 'torchrun' not in tool])
def test_usage_of_tool_and_command_are_the_same_but_for_the_name(tool, monkeypatch, capsys):
    """``python tools/train.py`` and ``mstkit train`` understand the same words."""
    usages = []
    name = next(name for name in NAMES if commands()[name].module == command_of(tool))
    monkeypatch.setattr(command_table.sys, 'argv', ['mstkit', name, '--help'])
    with pytest.raises(SystemExit):
        command_table.run([name, '--help'])
    usages.append(capsys.readouterr().out)
    usages.append(run_program(tool, '--help').stdout)
    program = Path(tool).name
    assert usages[0].startswith(f'usage: mstkit {name} [-h]')
    assert usages[1].startswith(f'usage: {program} [-h]')

    def words(usage: str, called: str) -> list[str]:
        return usage.replace(f'usage: {called}', 'usage:', 1).split()

    assert words(usages[0], f'mstkit {name}') == words(usages[1], program)


def test_torchrun_starts_commands_that_know_the_launcher():
    words = torchrun_command.program_words
    assert words('train', ['a.py', '--epochs', '1']) == [
        *('--module', 'mstkit', 'train', 'a.py', '--epochs', '1', '--launcher', 'pytorch'),
    ]
    assert words('test', ['--launcher', 'slurm'])[2:] == ['test', '--launcher', 'slurm']
    assert words('tools/train.py', ['a.py']) == ['tools/train.py', 'a.py']
    with pytest.raises(UsageError, match=r"'knn' does not run in several processes: give train, test, replay or"):
        words('knn', [])
    for name in torchrun_command.COMMANDS:
        module = load_program(f'tools/{name}.py')
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(argparse.ArgumentParser, 'parse_args', lambda self: self)
            assert '--launcher' in module.parse_args()._option_string_actions
