"""tools/ablate.py as a user runs it, on the demo at a tiny size."""

from __future__ import annotations

import csv
import json
import os
import runpy
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from mstkit.evaluation.image_hits import read_hits
from tests import warm
from tests.evaluation.evaluated_networks import make_folders

from .toy_ablation import ROOT

DEMO = 'configs/demo/mst_vit-nano_scenes.py'
CROPS = 'train_dataloader.dataset.pipeline.1'
# Global views of 2x2 patches: too few for a masker that takes an eighth of them, which has to be one failed cell.
TINY = [
    'model.backbone.arch.embed_dims=24',
    'model.backbone.arch.num_layers=1',
    'model.backbone.arch.num_heads=2',
    'model.neck.out_dim=16',
    'model.neck.hidden_dim=16',
    'model.decoder=none',
    'train_dataloader.batch_size=8',
    'train_dataloader.dataset.num_images=16',
    'default_hooks.knn.train_dataset.num_images=60',
    'default_hooks.knn.val_dataset.num_images=40',
    'default_hooks.panels=none',
    f'{CROPS}.global_crops.size=16',
    f'{CROPS}.local_crops.size=8',
]


@pytest.fixture
def ablate(monkeypatch, capfd):
    """Runs the tool, in this process: importing everything takes longer than all else here. Its two streams."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, 'executable', warm.python())  # of the trainings that it starts
    monkeypatch.setenv('OMP_NUM_THREADS', '1')

    def run(*words: str | Path, expect: int) -> tuple[str, str]:
        monkeypatch.setattr(sys, 'argv', ['ablate.py', *(str(word) for word in words)])
        code: str | int | None = 0
        try:
            runpy.run_path('tools/ablate.py', run_name='__main__')
        except SystemExit as stop:
            code = stop.code
        out, err = capfd.readouterr()
        assert code == expect, f'{out[-3000:]}\n{err[-3000:]}'
        return out, err

    return run


def test_an_ablation_from_start_to_table(tmp_path, ablate):
    """Three cells, one of which the model refuses; then the list of what is left to do."""
    work = tmp_path / 'work'
    words = [DEMO, '--vary', 'model.masker=none,random-matched,mst', '--seeds', '3', '--epochs', '1']
    words += ['--jobs', '2', '--work-dir', work, '--cfg-options', *TINY]
    out, _ = ablate(*words, expect=1)
    assert 'epoch 1 of 1, k-NN student ' in out
    assert '1 of 3 cells failed: mst, seed 3' in out
    with open(work / 'ablation.csv') as file:
        rows = {row['choice']: row for row in csv.DictReader(file)}
    assert [row['status'] for row in rows.values()] == ['finished', 'finished', 'failed']
    assert 'leaves no candidate among 4' in rows['mst']['error']
    for name in ('none', 'random-matched'):
        lines = (work / name / 'seed3' / 'knn.jsonl').read_text().splitlines()
        first, last = (json.loads(line)['branches'] for line in lines)
        assert float(rows[name]['random_init']) == first['student']['k20_top1']
        assert float(rows[name]['teacher_last']) == last['teacher']['k20_top1']
        assert 'OMP_NUM_THREADS=1 python tools/train.py ' in rows[name]['command']
    assert float(rows['none']['hidden_fraction']) == 0
    assert rows['random-matched']['hidden_fraction'] != ''
    page = (work / 'ablation.md').read_text()
    assert 'leaves no candidate among 4' in page
    assert (work / 'ablation.png').stat().st_size > 10_000
    listed, _ = ablate(*words, '--dry-run', expect=0)
    assert [line.rpartition('  ')[2] for line in listed.splitlines() if 'seed 3' in line] == [
        'finished', 'finished', 'failed, runs again',
    ]  # fmt: skip
    assert listed.splitlines()[-1] == '3 cells: 3 choices, 1 seeds'


def test_a_mistake_exits_with_two(tmp_path, ablate):
    words = [DEMO, '--work-dir', tmp_path / 'work', '--vary', 'model.masker=none,mts']
    _, error = ablate(*words, expect=2)
    assert error.strip().splitlines()[-1].startswith("error: --vary model.masker=mts: there is no choice 'mts'.")
    assert 'Traceback' not in error
    assert not (tmp_path / 'work').exists()


@pytest.mark.slow
def test_two_methods_stopped_and_resumed_are_those_that_were_not(tmp_path, ablate, monkeypatch):
    """Trainings and measurements: the same k-NN curves, hits and differences, whether it was stopped or not."""
    for module in ('ablation_report.draw_curves', 'mask_comparison_report.draw_differences'):
        monkeypatch.setattr(f'mstkit.experiments.{module}', lambda *_, **__: None)  # seconds after each of 64 jobs
    data = make_folders(tmp_path / 'data', train=24, val=8)
    words = ['configs/ibot/ibot_vit-tiny_folder.py', 'configs/mae/mae_vit-tiny_folder.py', '--data-root', data]
    words += ['--masks', 'block', '--twins', '--seeds', '0,1', '--images', '144', '--measure', 'knn,finetune']
    words += ['--set', 'finetune.epochs=2', '--jobs', '2', '--cfg-options']
    words += [f'model.backbone.arch.{part}' for part in ('embed_dims=24', 'num_layers=2', 'num_heads=2')]
    words += ['train_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False']
    words += ['train_dataloader.batch_size=24', 'default_hooks.knn.num_workers=0', 'default_hooks.panels=none']
    whole, stopped = tmp_path / 'whole', tmp_path / 'stopped'
    out, _ = ablate(*words, '--work-dir', whole, expect=0)
    assert 'mae_vit-tiny_folder: --images 144: 2 epochs of 72 images, 144 in all' in out
    begun = stopped / 'mae_vit-tiny_folder' / 'block' / 'seed0'

    def stop() -> None:
        while not any(begun.glob('measured/finetune*/measured.json')):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop)
    thread.start()
    ablate(*words, '--work-dir', stopped, expect=130)
    thread.join()
    out, _ = ablate(*words, '--work-dir', stopped, expect=0)
    assert 'jobs are finished already' in out
    compared = 0
    for file in sorted(whole.rglob('*.npz')):
        if file.parent.name.startswith(('knn', 'finetune')):
            one, other = (read_hits(root / file.relative_to(whole)) for root in (whole, stopped))
            assert one.images == other.images and (one.hits == other.hits).all(), file
            compared += 1
    assert compared == 2 * 2 * 2 * (2 + 1), 'methods, seeds, measurements; two masks and random weights'
    for file in whole.rglob('knn.jsonl'):
        assert file.read_text() == (stopped / file.relative_to(whole)).read_text(), file
    name = 'ablation_differences.csv'
    assert (whole / name).read_text() == (stopped / name).read_text()
    page = (stopped / 'ablation.md').read_text()
    assert page.count('Masks against random ones of the same count') == 2 and '| random init |' in page
