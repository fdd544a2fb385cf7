"""The audit says what pip-audit found, and does not fail where it could not look."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs import load_program

FOUND = [
    dict(name='good', version='1.0', vulns=[]),
    dict(
        name='bad',
        version='2.0',
        vulns=[
            dict(id='PYSEC-1', aliases=['CVE-1', 'GHSA-1'], fix_versions=['2.1', '3.0'], description='long'),
            dict(id='PYSEC-2', aliases=[], fix_versions=[], description='long'),
        ],
    ),
    dict(name='ours', skip_reason='Dependency not found'),
]
LINES = [
    'bad 2.0 has PYSEC-1, CVE-1, GHSA-1: mended in 2.1, 3.0',
    'bad 2.0 has PYSEC-2: not mended yet',
    'audit: 3 packages, 2 known vulnerabilities; 1 could not be looked up',
]


@pytest.fixture
def audit(monkeypatch):
    module = load_program('.ci/audit.py')
    monkeypatch.setattr(module, 'pip_audit', lambda folder: Path(sys.executable))
    monkeypatch.delenv('GITHUB_ACTIONS', raising=False)
    return module


def says(module, monkeypatch, output: str, stderr: str = '', *words: str) -> int:
    def run(command, **_):
        assert command[1:3] == ['-m', 'pip_audit'] and 'site-packages' in command[command.index('--path') + 1]
        return subprocess.CompletedProcess(command, 1, output, stderr)

    monkeypatch.setattr(module.subprocess, 'run', run)
    monkeypatch.setattr(sys, 'argv', ['audit.py', *words])
    return module.main()


def test_each_vulnerability_is_a_line(audit, monkeypatch, capsys):
    output = json.dumps(dict(dependencies=FOUND))
    assert says(audit, monkeypatch, output) == 0
    assert capsys.readouterr().out.splitlines() == [f'warning: {LINES[0]}', f'warning: {LINES[1]}', LINES[2]]
    monkeypatch.setenv('GITHUB_ACTIONS', 'true')
    assert says(audit, monkeypatch, output, '', '--strict') == 1
    assert capsys.readouterr().out.splitlines()[0] == f'::warning::{LINES[0]}'
    assert says(audit, monkeypatch, json.dumps(dict(dependencies=FOUND[:1])), '', '--strict') == 0
    assert capsys.readouterr().out == 'audit: 1 packages, 0 known vulnerabilities\n'


def test_where_it_cannot_look_it_says_so(audit, monkeypatch, capsys):
    assert says(audit, monkeypatch, '', 'Traceback\nConnectionError: no network') == 0
    assert capsys.readouterr().out == 'audit: not done: ConnectionError: no network\n'
    assert says(audit, monkeypatch, '', '', '--strict') == 1
    capsys.readouterr()
    assert says(audit, monkeypatch, json.dumps(dict(dependencies=FOUND[2:]))) == 0
    assert capsys.readouterr().out == 'audit: not done: none of 1 packages could be looked up\n'

    def no_pip(folder):
        raise subprocess.CalledProcessError(1, 'pip', stderr='pip: a line\nno such package')

    monkeypatch.setattr(audit, 'pip_audit', no_pip)
    assert says(audit, monkeypatch, '') == 0
    assert capsys.readouterr().out.splitlines()[-1] == 'audit: not done: no such package'
