"""benchmarks/startup.py waits for an iteration, and says why there was none."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

from mstkit.errors import UsageError, exit_cleanly

BENCHMARKS = Path(__file__).parents[1] / 'benchmarks'


@pytest.fixture
def startup(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module('startup')


def test_lines_and_json(startup, monkeypatch, capsys, tmp_path):
    """With a program that stands in for the training."""
    (tmp_path / 'tools').mkdir()
    (tmp_path / 'tools' / 'train.py').write_text(
        'import sys, time\nassert "--work-dir" in sys.argv\n'
        'print("Epoch(train) [1][1/9]", flush=True)\ntime.sleep(60)\n'
    )
    (tmp_path / 'config.py').write_text('')
    monkeypatch.setattr(sys.modules[startup.training_run.__module__], 'ROOT', tmp_path)
    monkeypatch.setattr(startup, 'IMPORTS', {'mstkit': 'import json', 'torch': 'pass', 'mmpretrain': 'pass'})
    out = tmp_path / 'out.json'
    monkeypatch.setattr(sys, 'argv', ['startup.py', 'config.py', '--rounds', '2', '--json', str(out)])
    startup.main()
    lines = capsys.readouterr().out.splitlines()
    found = json.loads(lines[-1])
    assert json.loads(out.read_text()) == found
    assert 0 < found['seconds']['first iteration'] < 60
    assert set(found['mstkit_over']) == {'torch', 'mmpretrain'}
    assert any(line.startswith('import mstkit / import torch: ') for line in lines)


@pytest.mark.parametrize(
    ('program', 'limit', 'message'),
    [
        ('print("no such thing")', 60, 'ended before its first iteration: no such thing'),
        ('import time; time.sleep(60)', 0.2, 'no iteration within'),
    ],
)
def test_no_iteration(startup, monkeypatch, tmp_path, program, limit, message):
    (tmp_path / 'tools').mkdir()
    (tmp_path / 'tools' / 'train.py').write_text(program)
    monkeypatch.setattr(sys.modules[startup.training_run.__module__], 'ROOT', tmp_path)
    with pytest.raises(UsageError, match=message):
        startup.seconds_to_iteration([], limit)


def test_mistakes(startup, monkeypatch, capsys):
    for words, message in ((['--rounds', '0'], '--rounds is 0'), (['nowhere.py'], 'there is no config nowhere.py')):
        monkeypatch.setattr(sys, 'argv', ['startup.py', *words])
        with pytest.raises(SystemExit) as stop:
            exit_cleanly(startup.main)()
        assert stop.value.code == 2
        assert message in capsys.readouterr().err
