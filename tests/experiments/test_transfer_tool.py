"""tools/transfer.py as a user runs it, in this process: importing everything takes longer than all else here."""

from __future__ import annotations

import csv
import runpy
import sys
from pathlib import Path

import pytest

from mstkit.errors import UsageError
from tests import warm

from .toy_transfer import CONFIGS, ROOT, program

TINY = """
_base_ = ['{base}']
train_dataloader = dict(batch_size=10, dataset=dict(num_images=20))
val_dataloader = dict(batch_size=10, dataset=dict(num_images=20))
test_dataloader = val_dataloader
"""


@pytest.fixture
def transfer(monkeypatch, capfd):
    """Runs the tool; its two streams."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, 'executable', warm.python())  # of the trainings that it starts

    def run(*words: str | Path, expect: int) -> tuple[str, str]:
        monkeypatch.setattr(sys, 'argv', ['transfer.py', *(str(word) for word in words)])
        code: str | int | None = 0
        try:
            runpy.run_path('tools/transfer.py', run_name='__main__')
        except SystemExit as stop:
            code = stop.code or 0
        out, err = capfd.readouterr()
        assert code == expect, f'{out[-3000:]}\n{err[-3000:]}'
        return out, err

    return run


def test_help_names_what_there_is(transfer):
    out, _ = transfer('--help', expect=0)
    for word in ('--pretrained', '--from-scratch-too', '--length', 'detection, segmentation, classification', 'TASK=N'):
        assert word in out


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['--tasks', 'detection,segmentaton'], "no task 'segmentaton'.*Did you mean segmentation"),
        (['--tasks', ''], "no task ''"),
        (['--seeds', '0,x'], '--seeds 0,x: give whole numbers'),
        (['--seeds', '1,1'], 'named twice'),
        (['--jobs', '0'], '--jobs is a whole number from 1, not 0'),
        (['--images', '-1'], '--images is a whole number from 0, not -1'),
        (['--length', '12'], '--length 12: give TASK=VALUE, such as detection=12'),
        (['--length', 'detection=two'], '--length detection=two: give TASK=VALUE'),
        (['--num-classes', 'segmentation=-1'], '--num-classes segmentation=-1: give TASK=VALUE'),
        (['--data-root', 'detection='], '--data-root detection=: give TASK=VALUE, such as detection=DIR'),
        (['--data-root', 'dtection=DIR'], "no task 'dtection'.*Did you mean detection"),
        (['--tasks', 'classification', '--length', 'detection=2'], '--tasks classification does not name detection'),
        (['--length', 'detection=2', 'detection=3'], 'detection is named twice'),
        (['--pretrained', 'nowhere.pth'], 'checkpoint nowhere.pth does not exist'),
        (['--branch', 'teacher'], 'has no teacher'),
        (['--tasks', 'classification', '--configs', 'classification=nowhere.py'], 'no config file nowhere.py'),
        (['--tasks', 'classification', '--data-root', 'classification=.'], 'generates its own images'),
    ],
)
def test_mistakes_are_one_line(transfer, checkpoint, tmp_path, words, message):
    out, error = transfer('--pretrained', checkpoint, '--work-dir', tmp_path / 'work', *words, expect=2)
    (line,) = error.strip().splitlines()
    assert line.startswith('error: ')
    with pytest.raises(UsageError, match=message):
        raise UsageError(line)
    assert 'starts in' not in out
    assert not (tmp_path / 'work').exists()


@pytest.mark.parametrize(
    'words', [[], ['--pretrained', 'x', '--branch', 'uncle'], ['--pretrained', 'x', '--jobs', 'a']]
)
def test_what_argparse_refuses(transfer, words):
    assert transfer(*words, expect=2)[1].strip().splitlines()[-1].startswith('transfer.py: error: ')


def test_from_runs_to_table(transfer, checkpoint, tmp_path, monkeypatch):
    """With a program in the place of the training: one of two runs fails, and its predictions are missing too."""
    monkeypatch.setattr(sys, 'executable', str(stand_in(tmp_path)))
    words = ['--pretrained', checkpoint, '--tasks', 'classification', '--from-scratch-too', '--seeds', '1,2']
    words += ['--work-dir', tmp_path / 'work', '--length', 'classification=2', '--images', '2']
    out, _ = transfer(*words, expect=1)
    assert '| classification | top-1 | 41.0 | 41.0 | +0.0 | 1 of 2, 1 of 2 |' in out
    assert '2 of 4 runs failed: classification, pre-trained, seed 2; classification, random init, seed 2' in out
    assert 'not drawn: ' in out, 'the checkpoints of the stand-in are empty files'
    page = (tmp_path / 'work' / 'transfer.md').read_text()
    assert '- classification, pre-trained, seed 2: the data set has no images' in page
    assert 'predictions.png' not in page
    again, _ = transfer(*words, expect=1)
    assert again.startswith('2 of 4 runs are finished already')


def stand_in(folder: Path) -> Path:
    """A Python that runs the toy program, whatever it is told to run."""
    path = folder / 'python'
    path.write_text(f'#!/bin/sh\nshift\nexec {sys.executable} {program(folder)} "$@"\n')
    path.chmod(0o755)
    return path


def test_a_real_training_from_start_to_image(transfer, checkpoint, tmp_path):
    tiny = tmp_path / 'tiny.py'
    tiny.write_text(TINY.format(base=CONFIGS['classification']))
    words = ['--pretrained', checkpoint, '--tasks', 'classification', '--configs', f'classification={tiny}']
    words += ['--length', 'classification=1', '--work-dir', tmp_path / 'work', '--images', '2']
    out, _ = transfer(*words, expect=0)
    assert 'epoch 1 of 1: top-1 ' in out
    with open(tmp_path / 'work' / 'transfer.csv') as file:
        (row,) = csv.DictReader(file)
    assert row['status'] == 'finished' and 0 <= float(row['value']) <= 100
    log = (tmp_path / 'work' / 'classification' / 'pre-trained' / 'seed0' / 'train.log').read_text()
    assert 'loaded 54 of 54 tensors (100.0 %)' in log
    assert (tmp_path / 'work' / 'classification_predictions.png').stat().st_size > 10_000
