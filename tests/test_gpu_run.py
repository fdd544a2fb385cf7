"""benchmarks/gpu_run.py: slices keep their time and their rows, fail alone, and can be rehearsed without a GPU."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mstkit.errors import exit_cleanly
from tests.programs import ROOT, load_program


@pytest.fixture(autouse=True)
def path(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / 'benchmarks')


def run(monkeypatch, *words: object) -> int:
    module = load_program('benchmarks/gpu_run.py')
    monkeypatch.setattr(sys, 'argv', ['gpu_run.py', *map(str, words)])
    try:
        exit_cleanly(module.main)()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def results(tmp_path: Path, seconds: float = 60.0):
    from gpu_slices.results import Results

    return Results(tmp_path / 'one.json', 'one', seconds, True)


def test_rows_are_written_as_they_come(tmp_path):
    made = results(tmp_path)
    made.row('first', lambda: dict(value=1))
    made.row('second', lambda: dict(value=1 / 0))
    made.skip('third', 'there is no GPU')
    found = json.loads((tmp_path / 'one.json').read_text())
    assert found['status'] == 'running' and found['rehearsed'] is True
    assert [row['name'] for row in found['rows']] == ['first', 'second'] and found['rows'][0]['value'] == 1
    assert 'ZeroDivisionError' in found['rows'][1]['error']
    assert found['skipped'] == [dict(name='third', why='there is no GPU')]
    assert found['packages']['torch'] == torch.__version__ and found['started'] and found['seconds'] >= 0
    made.close()
    assert json.loads((tmp_path / 'one.json').read_text())['status'] == 'done'


def test_what_the_deadline_leaves_out_is_said(tmp_path):
    made = results(tmp_path, seconds=5)
    assert made.row('long', lambda: dict(value=1), needs=6) is None
    assert made.row('short', lambda: dict(value=2), needs=1) == dict(value=2)
    made.close()
    found = json.loads((tmp_path / 'one.json').read_text())
    assert found['status'] == 'stopped' and found['unreached'] == ['long'] and len(found['rows']) == 1


def test_a_program_is_ended_with_what_it_started(tmp_path):
    from gpu_slices.results import run_program

    child = f'import time; time.sleep(2); open({str(tmp_path / "late")!r}, "w")'
    parent = f'import subprocess, sys; print("begun", flush=True); subprocess.run([sys.executable, "-c", {child!r}])'
    found = run_program(['-c', parent], 1.0, tmp_path / 'log')
    assert found['code'] is None and (tmp_path / 'log').read_text().startswith('begun')
    time.sleep(2.5)
    assert not (tmp_path / 'late').exists()
    assert run_program(['-c', 'print(1); raise SystemExit(3)'], 60, tmp_path / 'log')['code'] == 3


@pytest.mark.parametrize(
    ('name', 'half'),
    [
        ('NVIDIA H200', 989.4),
        ('NVIDIA H100 80GB HBM3', 989.4),
        ('NVIDIA H100 PCIe', 756.0),
        ('NVIDIA H100 NVL', 835.5),
        ('NVIDIA A100-SXM4-40GB', 312.0),
        ('NVIDIA L4', 121.0),
        ('NVIDIA GeForce RTX 4090', 165.2),
        ('NVIDIA L40S', None),
        ('NVIDIA GeForce RTX 4090 Laptop GPU', None),
    ],
)
def test_peaks_are_those_of_the_device(name, half):
    from gpu_slices.peaks import operations_per_second, peak_of

    peak = peak_of(name)
    assert (None if peak is None else peak.half) == half
    if peak is not None:
        assert operations_per_second(peak, 'bfloat16', False) == half * 1e12
        assert operations_per_second(peak, 'float32', True) == 1e12 * peak.tf32 >= 1e12 * peak.single


def test_every_method_has_a_step():
    from gpu_slices.steps import MAIN, method_configs

    found = list(method_configs())
    folders = {path.parent for path in (ROOT / 'configs').glob('*/*.py')}
    left_out = {ROOT / 'configs' / name for name in ('_base_', 'demo', 'mmpretrain')}
    assert {path.parent for path in found} == folders - left_out and len(found) >= 17
    assert all((ROOT / config).is_file() for config in MAIN)


def test_slices_are_listed_and_mistakes_are_named(monkeypatch, tmp_path, capsys):
    assert run(monkeypatch, '--list', '--out', tmp_path) == 0
    listed = capsys.readouterr().out
    assert 'not run' in listed and all(name in listed for name in ('steps', 'gpu-tests', 'learning', 'processes'))
    assert run(monkeypatch, '--slice', 'nothing', '--out', tmp_path) == 2
    assert 'give one of steps, peers' in capsys.readouterr().err
    if not torch.cuda.is_available():
        assert run(monkeypatch, '--all', '--out', tmp_path / 'new') == 2
        assert 'give --rehearse' in capsys.readouterr().err and not (tmp_path / 'new').exists()


def test_a_rehearsal_runs_every_slice_that_is_due_and_none_stops_another(monkeypatch, tmp_path, capsys):
    """Its processes are run in this one, and a slice that breaks is one of them."""
    module = load_program('benchmarks/gpu_run.py')

    def broken(settings, made) -> None:
        made.row('a row', lambda: dict(value=1))
        raise RuntimeError('of the slice')

    chosen = {name: module.SLICES[name] for name in ('steps', 'processes', 'masks')}
    monkeypatch.setattr(module, 'SLICES', {'broken': module.Slice('breaks', broken), **chosen})
    monkeypatch.setattr('tests.test_gpu_run.load_program', lambda _: module)

    class Inside:
        """A process of a slice."""

        pid = 0

        def __init__(self, words, **_) -> None:
            try:
                self.code = run(monkeypatch, *words[2:])
            except RuntimeError:
                self.code = 1

        def wait(self, timeout: float) -> int:
            assert timeout > 60
            return self.code

    started = SimpleNamespace(Popen=Inside, TimeoutExpired=subprocess.TimeoutExpired)
    monkeypatch.setattr(module, 'subprocess', started)
    assert run(monkeypatch, '--all', '--rehearse', '--out', tmp_path, '--seconds', 300) == 1
    found = {name: json.loads((tmp_path / f'{name}.json').read_text()) for name in module.SLICES}
    assert {name: one['status'] for name, one in found.items()} == {
        'broken': 'failed',
        'steps': 'done',
        'processes': 'done',
        'masks': 'done',
    }
    assert found['broken']['rows'][0]['value'] == 1, 'what it had is kept'
    (step,) = found['steps']['rows']
    assert step['images_per_second'] > 0 and step['model_flops'] > 0 and step['peak_bytes'] > 0
    assert step['mfu'] is None and step['waits'] is None, 'of a GPU'
    assert len(found['processes']['skipped']) == 5
    capsys.readouterr()
    assert run(monkeypatch, '--all', '--rehearse', '--out', tmp_path) == 1
    assert capsys.readouterr().out.count('slices came to their end') == 1, 'the others are not due'
    assert run(monkeypatch, '--list', '--out', tmp_path) == 0
    assert 'failed: 1 rows' in capsys.readouterr().out
