"""Where results go is looked at before anything is computed."""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import re
import sys
from pathlib import Path

import pytest

from mstkit.errors import USAGE_EXIT, UsageError, exit_cleanly
from mstkit.utils import output_paths
from mstkit.utils.output_paths import output_file, output_folder
from tests.engine import running
from tests.programs import ROOT

OPTIONS = ('--out', '--json', '--work-dir', '--cache', 'folder')  # the last is the positional argument of make_scenes
NO_OUTPUTS = {('consolidate', 'folder'), ('configs', '--json')}  # what is read, and a flag
WORDS = {'to': 'timm'}  # where any word is not good enough
_NAMED = re.compile(r"add_argument\(\s*'(--out|--json|--work-dir|--cache|folder)'|\b(add_run_arguments)\(parser")


def found() -> list[tuple[str, str]]:
    """Every command with every option that names an output."""
    pairs = []
    for path in sorted((ROOT / 'mstkit' / 'commands').glob('*_command.py')):
        name = path.stem.removesuffix('_command')
        for match in _NAMED.finditer(path.read_text(encoding='utf-8')):
            pairs.append((name, match[1] or '--work-dir'))
    return [pair for pair in pairs if pair not in NO_OUTPUTS]


FOUND = found()


def test_the_walk_meets_all():
    """A search that finds nothing would let every program pass."""
    assert len({program for program, _ in FOUND}) >= 15
    assert {option for _, option in FOUND} == set(OPTIONS)


class Seen(Exception):
    """Carries a program's parser out of it."""


def words_for(program, option: str, place: str, monkeypatch) -> list[str]:
    """A command line with what is required, none of which is there, and an output."""

    def keep(self, *_: object, **__: object):
        raise Seen(self)

    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, 'parse_args', keep)
        with pytest.raises(Seen) as caught:
            program.parse_args()
    parser = caught.value.args[0]
    groups = [group for group in parser._mutually_exclusive_groups if group.required]
    chosen = [group._group_actions[0] for group in groups]
    words: list[str] = []
    for action in parser._actions:
        named = option in (*action.option_strings, action.dest)
        if not named and not action.required and action not in chosen:
            continue
        value = (
            place if named else next(iter(action.choices)) if action.choices else WORDS.get(action.dest, 'not-there')
        )
        words += [*action.option_strings[-1:], value]
    return words


@pytest.mark.parametrize(('name', 'option'), FOUND)
def test_every_program_refuses_an_output_before_its_work(name, option, tmp_path, monkeypatch, capsys):
    """Whatever else it is given is not there either, and is not what it complains of."""
    (tmp_path / 'file').touch()
    suffix = {'report': '.html', 'attention_maps': '.png'}.get(name, '')
    place = str(tmp_path / 'file' / f'results{suffix}')
    program = importlib.import_module(f'mstkit.commands.{name}_command')
    monkeypatch.setattr(sys, 'argv', [name, *words_for(program, option, place, monkeypatch)])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        exit_cleanly(program.main)()
    assert caught.value.code == USAGE_EXIT
    shown = 'DIR' if option == 'folder' else option
    said = f'{tmp_path / "file"} is not a folder; remove it, or give another place'
    assert capsys.readouterr().err == f'error: {shown} {place} cannot be written: {said}.\n'
    assert [path.name for path in tmp_path.iterdir()] == ['file']


def test_a_training_refuses_its_work_dir(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(UsageError, match=r'the work dir .*file cannot be written: .*file is not a folder'):
        running.build(tmp_path / 'file')


@pytest.mark.parametrize('number', [errno.EROFS, errno.EACCES])
@pytest.mark.parametrize('check', [output_file, output_folder])
def test_the_reason_and_the_way_out(check, number, tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(output_paths.tempfile, 'TemporaryFile', refuse)
    place = tmp_path / 'a' / 'b'
    with pytest.raises(UsageError) as caught:
        check('--out', place)
    why = os.strerror(number).lower()
    assert str(caught.value) == (
        f'--out {place} cannot be written: {why} in {tmp_path}; make that folder writable, or give another place.'
    )


def test_what_can_be_written_leaves_no_trace(tmp_path):
    (tmp_path / 'there').write_text('before')
    assert output_file('--json', tmp_path / 'there') == tmp_path / 'there'
    assert output_file('--json', tmp_path / 'a' / 'b.json') == tmp_path / 'a' / 'b.json'
    assert output_folder('--out', tmp_path / 'a' / 'b') == tmp_path / 'a' / 'b'
    assert output_file('--json', 'b.json') == Path('b.json')
    assert [path.read_text() for path in tmp_path.iterdir()] == ['before']


def test_names_that_no_file_can_have(tmp_path):
    with pytest.raises(UsageError, match=r'is a folder: give the name of a file'):
        output_file('--json', tmp_path)
    with pytest.raises(UsageError, match=r'name too long'):
        output_file('--json', tmp_path / ('x' * 300))
