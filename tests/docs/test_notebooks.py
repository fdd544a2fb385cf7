"""The tutorials' notebooks: nothing is kept of a run, what they link and call is there, and they run."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from pathlib import Path

import pytest

from mstkit.commands.command_table import commands

from .pages import ROOT, text_of

FOLDER = ROOT / 'docs' / 'en' / 'tutorials'
NOTEBOOKS = sorted(FOLDER.glob('*.ipynb'))
every_notebook = pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)


def cells(path: Path, kind: str) -> list[str]:
    return [''.join(cell['source']) for cell in json.loads(text_of(path))['cells'] if cell['cell_type'] == kind]


def test_the_first_page_of_the_tutorials_has_all_of_them():
    linked = re.findall(r'\]\((\w+)\.ipynb\)', text_of(FOLDER / 'index.md'))
    assert sorted(linked) == [path.stem for path in NOTEBOOKS] and len(linked) >= 3


@every_notebook
def test_nothing_is_kept_of_a_run(path):
    notebook = json.loads(text_of(path))
    for cell in notebook['cells']:
        assert not cell.get('outputs') and cell.get('execution_count') is None
    assert notebook['metadata']['kernelspec']['name'] == 'python3'
    assert ''.join(notebook['cells'][0]['source']).startswith('# ')
    assert not re.search(r'/work/|/root/|/tmp/|/home/', text_of(path))


@every_notebook
def test_links_lead_somewhere_and_pictures_have_a_text(path):
    for text in cells(path, 'markdown'):
        for link in re.findall(r'\]\(([^)\s]+)\)', text):
            assert (path.parent / link.partition('#')[0]).is_file(), link
    for code in cells(path, 'code'):
        for shown in re.findall(r'^Show\(.*$', code, re.MULTILINE):
            assert re.search(r", alt='[^']{15,}'\)$", shown), shown


@every_notebook
def test_the_commands_exist_and_stop_at_a_mistake(path):
    named = 0
    for code in cells(path, 'code'):
        assert not re.search(r'^\s*!', code, re.MULTILINE), 'an exclamation mark hides that a command failed'
        if code.startswith('%%bash\n'):
            for line in code.replace('\\\n', ' ').splitlines()[1:]:
                words = shlex.split(line)
                assert words[0] == 'test' or (words[0] == 'mstkit' and words[1] in commands()), line
                named += words[0] == 'mstkit'
    assert named


@pytest.mark.slow
@every_notebook
def test_it_runs(path, tmp_path, monkeypatch):
    nbclient = pytest.importorskip(
        'nbclient', reason='requirements/docs.txt has what runs notebooks: make docs installs it'
    )
    nbformat = pytest.importorskip('nbformat')
    pytest.importorskip('ipykernel', reason='requirements/docs.txt has it: make docs installs it')
    program = tmp_path / 'bin' / 'mstkit'
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m mstkit "$@"\n', encoding='utf-8')
    program.chmod(0o755)
    monkeypatch.setenv('PATH', f'{program.parent}{os.pathsep}{os.environ["PATH"]}')
    monkeypatch.setenv('PYTHONPATH', f'{ROOT}{os.pathsep}{os.environ.get("PYTHONPATH", "")}')
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    here = tmp_path / 'here'
    here.mkdir()
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    client = nbclient.NotebookClient(notebook, timeout=900, resources={'metadata': {'path': str(here)}})
    client.execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == 'code' for output in cell.outputs]
    assert [output for output in outputs if output.output_type == 'error'] == []
    shown = sum('image/png' in output.get('data', {}) for output in outputs)
    assert shown >= sum('\nShow(' in f'\n{code}' for code in cells(path, 'code'))
