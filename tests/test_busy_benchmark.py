"""benchmarks/busy.py compares iterations alone with those beside busy processes, and says why there were none."""

from __future__ import annotations

import json
import sys
import textwrap

import pytest

from tests.programs import load_program

# Stands in for a training: iterations that say of themselves how long they took, and validations in between.
TRAINING = """
    import json, sys, time
    from pathlib import Path
    assert 'train_dataloader.num_workers=1' in sys.argv and 'a=1' in sys.argv
    folder = Path(sys.argv[sys.argv.index('--work-dir') + 1]) / 'now' / 'vis_data'
    folder.mkdir(parents=True)
    with (folder / 'scalars.json').open('w') as log:
        while True:
            start = time.perf_counter()
            time.sleep(0.02)
            log.write(json.dumps(dict(loss=1.0, time=time.perf_counter() - start)) + '\\n')
            log.write(json.dumps(dict(time=100.0, accuracy=1.0)) + '\\n')
            log.flush()
"""


@pytest.fixture
def busy(monkeypatch, tmp_path):
    module = load_program('benchmarks/busy.py')
    monkeypatch.setattr(sys.modules[module.training_run.__module__], 'ROOT', tmp_path)
    (tmp_path / 'tools').mkdir()
    (tmp_path / 'config.py').write_text('')
    return module


def write(folder, program: str) -> None:
    (folder / 'tools' / 'train.py').write_text(textwrap.dedent(program))


def run(module, monkeypatch, capsys, *words) -> tuple[int, str, str]:
    monkeypatch.setattr('sys.argv', ['busy.py', 'config.py', *map(str, words)])
    try:
        module.main()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.mark.parametrize('session', [(), ('--own-session',)], ids=['same session', 'own session'])
def test_lines_and_json(busy, monkeypatch, capsys, tmp_path, session):
    write(tmp_path, TRAINING)
    words = (*session, '--threads', '1,2', '--seconds', 0.4, '--rounds', 2, '--neighbors', 1, '--cfg-options', 'a=1')
    code, out, _ = run(busy, monkeypatch, capsys, *words, '--json', tmp_path / 'out.json')
    assert code == 0
    found = json.loads(out.splitlines()[-1])
    assert json.loads((tmp_path / 'out.json').read_text()) == found
    assert list(found['results']) == ['1', '2']
    for one in found['results'].values():
        assert 0.02 <= one['alone'] < 1 and one['times_as_long'] > 0.5 and one['fair'] >= 1
        assert min(one['iterations'].values()) > 4
    assert sum(' threads: ' in line for line in out.splitlines()) == 2


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (('--threads', '1,1'), '--threads is 1,1: give different numbers'),
        (('--rounds', 0), '--rounds is 0: give at least 1'),
        (('--neighbors', 0), '--neighbors is 0: give at least 1'),
    ],
)
def test_mistakes(busy, monkeypatch, capsys, words, message):
    code, _, err = run(busy, monkeypatch, capsys, *words)
    assert code == 2 and message in err


@pytest.mark.parametrize(
    ('program', 'limit', 'message'),
    [
        ('print("no such thing")', 60, 'the training ended before it was measured: no such thing'),
        ('import time; time.sleep(60)', 0.3, 'no 5 iterations within 0.3 s'),
    ],
)
def test_no_iteration(busy, monkeypatch, capsys, tmp_path, program, limit, message):
    write(tmp_path, program)
    code, _, err = run(busy, monkeypatch, capsys, '--limit', limit)
    assert code == 2 and message in err
