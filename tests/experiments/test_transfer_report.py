"""Table, CSV, plots and page against numbers that the test made up."""

from __future__ import annotations

import csv
import io
import statistics
from typing import Any

import pytest
from PIL import Image

from mstkit.experiments import FAILED, FINISHED, RUNNING, transfer_report
from mstkit.experiments.transfer import PRETRAINED, SCRATCH
from mstkit.experiments.transfer_report import csv_table, draw_plots, markdown_table, read_results, write_report

from .toy_transfer import NOTHING_DETECTED, log, make_plan, make_run

BOXES = {PRETRAINED: (0.31, 0.27, 0.305), SCRATCH: (0.2, 0.12)}  # AP by seed, at the end
MASKS = {PRETRAINED: (0.25, 0.22, 0.2), SCRATCH: (0.1, 0.1)}


@pytest.fixture
def runs(tmp_path):
    """Detection with three seeds, of which one run is still going and one has failed; segmentation with nothing yet."""
    made = []
    for start in (PRETRAINED, SCRATCH):
        for seed in range(3):
            run = make_run(tmp_path, start=start, seed=seed)
            made.append(run)
            if seed < len(BOXES[start]):
                end = {'coco/bbox_mAP': BOXES[start][seed], 'coco/segm_mAP': MASKS[start][seed]}
                log(run, (1, NOTHING_DETECTED), (2, end))
                run.write(status=FINISHED, seconds=60.0 + seed, error=None, command=f'python a --seed {seed}')
    going = made[-1]
    log(going, (1, {'coco/bbox_mAP': 0.99, 'coco/segm_mAP': 0.99}))
    going.write(status=RUNNING, seconds=5.0, error=None)
    made.append(make_run(tmp_path, 'segmentation', length=500, unit='iteration'))
    made[-1].write(status=FAILED, seconds=3.0, error='no label maps')
    return made


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip('|').split('|')] for line in table.splitlines()]


def test_numbers_of_the_table(runs):
    def shown(*values: float) -> str:
        percent = [100 * value for value in values]
        return f'{statistics.fmean(percent):.1f} ± {statistics.stdev(percent):.1f}'

    rows = cells(markdown_table(read_results(runs)))
    assert rows[0] == ['task', 'metric', 'pre-trained', 'random init', 'difference', 'seeds finished']
    gain = 100 * ((0.31 + 0.27 + 0.305) / 3 - (0.2 + 0.12) / 2)
    assert rows[2] == [
        'detection', 'box AP', shown(*BOXES[PRETRAINED]), shown(*BOXES[SCRATCH]), f'+{gain:.1f}', '3 of 3, 2 of 3',
    ]  # fmt: skip
    assert rows[2][2:5] == ['29.5 ± 2.2', '16.0 ± 5.7', '+13.5']
    assert rows[3][:5] == ['detection', 'mask AP', '22.3 ± 2.5', '10.0 ± 0.0', '+12.3']
    assert rows[4:] == [
        ['segmentation', metric, '–', '–', '–', '0 of 1, 0 of 0'] for metric in ('mIoU', 'mAcc', 'aAcc')
    ]


def test_one_start_has_no_difference_and_one_seed_no_deviation(tmp_path):
    run = make_run(tmp_path, 'classification')
    log(run, (2, {'accuracy/top1': 45.25, 'accuracy/top5': 90.0}))
    run.write(status=FINISHED, seconds=1.0)
    assert cells(markdown_table(read_results([run]))) == [
        ['task', 'metric', 'pre-trained', 'seeds finished'],
        ['---'] * 4,
        ['classification', 'top-1', '45.2', '1 of 1'],
    ]
    worse = make_run(tmp_path, 'classification', SCRATCH)
    log(worse, (2, {'accuracy/top1': 50.0}))
    worse.write(status=FINISHED, seconds=1.0)
    assert cells(markdown_table(read_results([run, worse])))[2][2:5] == ['45.2', '50.0', '-4.8']
    log(worse, (2, {'accuracy/top1': 45.27}))
    assert cells(markdown_table(read_results([run, worse])))[2][4] == '+0.0', 'not -0.0'


def test_the_csv_has_every_validation_unrounded(runs):
    rows = list(csv.DictReader(io.StringIO(csv_table(read_results(runs)))))
    assert len(rows) == 5 * 4 + 2 + 1
    last = [row for row in rows if row['start'] == PRETRAINED and row['seed'] == '2' and row['metric'] == 'mask AP']
    assert [(row['step'], row['unit'], float(row['value'])) for row in last] == [
        ('1', 'epoch', 0.0),
        ('2', 'epoch', 100 * 0.2),
    ]
    assert (last[0]['status'], last[0]['seconds'], last[0]['command']) == ('finished', '62.0', 'python a --seed 2')
    going = [row for row in rows if row['status'] == 'running']
    assert [(row['metric'], row['value']) for row in going] == [('box AP', '99.0'), ('mask AP', '99.0')]
    assert rows[-1]['error'] == 'no label maps' and rows[-1]['value'] == '' and rows[-1]['status'] == 'failed'


def test_plots_show_means_and_seeds(runs, tmp_path, monkeypatch):
    drawn: dict[str, Any] = {}
    monkeypatch.setattr(transfer_report, 'draw_curves', lambda panels, path, **more: drawn.update(panels, **more))
    assert draw_plots(make_plan(tmp_path, runs), read_results(runs)) == {'detection': 'detection.png'}, (
        'nothing of the segmentation'
    )
    assert drawn['xlabel'] == 'epoch'
    first, *seeds = (curve for curve in drawn['box AP'] if curve.color == 0)
    assert (first.label, first.points) == (PRETRAINED, [(1, 0.0), (2, pytest.approx(29.5))])
    assert [curve.points[-1] for curve in seeds] == [(2, pytest.approx(100 * value)) for value in BOXES[PRETRAINED]]
    assert all(curve.faint and curve.label is None for curve in seeds)
    scratch = next(curve for curve in drawn['box AP'] if curve.label == SCRATCH)
    assert scratch.points == [(1, pytest.approx(33.0))], 'the epochs that all of its seeds have'


def test_the_page_says_what_was_done_and_what_is_missing(runs, tmp_path):
    table = write_report(make_plan(tmp_path, runs), ['detection_predictions.png'])
    page = (tmp_path / 'transfer.md').read_text()
    assert table in page
    assert 'Backbone: the teacher of epoch_9.pth, epoch 9.' in page
    assert '/mask-rcnn_vit-nano_scenes.py`, 2 epochs' in page and '/setr_vit-nano_scenes.py`, 500 iterations' in page
    assert 'Not finished: detection, random init, seed 2.' in page
    assert 'Failed:\n\n- segmentation, pre-trained, seed 0: no label maps' in page
    assert '![detection over the run](detection.png)' in page
    assert '![detection: predictions](detection_predictions.png)' in page
    assert (tmp_path / 'transfer.csv').read_text() == csv_table(read_results(runs))
    with Image.open(tmp_path / 'detection.png') as image:
        assert image.size[0] > image.size[1] > 300
    assert not (tmp_path / 'segmentation.png').exists()


def test_nothing_is_missing_from_a_complete_transfer(tmp_path):
    run = make_run(tmp_path, 'classification')
    log(run, (2, {'accuracy/top1': 45.25}))
    run.write(status=FINISHED, seconds=1.0, error=None)
    write_report(make_plan(tmp_path, [run]))
    page = (tmp_path / 'transfer.md').read_text()
    assert 'Not finished' not in page and 'Failed' not in page and 'predictions' not in page
