"""The tables and the plot, against records written by hand."""

from __future__ import annotations

import csv
import io
import statistics
from typing import Any

import pytest
from PIL import Image

from mstkit.experiments import FAILED, FINISHED, ablation_report, mean_curve, spread
from mstkit.experiments.ablation_report import (
    branches,
    csv_table,
    draw_report,
    markdown_table,
    read_result,
    write_report,
)

from .toy_ablation import make, record_run

STUDENT = [{0: 17.0, 4: 60.0, 8: 50.0}, {0: 18.0, 4: 30.0, 8: 53.0}]
TEACHER = [{0: 17.0, 4: 20.5, 8: 41.25}, {0: 18.0, 4: 22.0, 8: 44.0}]


@pytest.fixture
def results(tmp_path):
    """Two finished seeds of one choice; of the other one finished, one failed."""
    plan = make(tmp_path, 'model.masker=mst,none', seeds=(0, 1))
    for seed, (mst, none) in enumerate((plan.cells[:2], plan.cells[2:])):
        record_run(mst.folder, dict(student=STUDENT[seed], teacher=TEACHER[seed]), hidden=[0.01, 0.02 + seed])
        mst.write(status=FINISHED, seconds=100.0 + seed, exit_code=0, error=None, command='python a', jobs=1)
        if seed == 0:
            record_run(none.folder, dict(student={0: 17.0, 8: 1 / 3}, teacher={0: 17.0, 8: 2.0}))
            none.write(status=FINISHED, seconds=7.0)
        else:
            record_run(none.folder, dict(student={0: 90.0, 4: 90.0}, teacher={0: 90.0, 4: 90.0}))
            none.write(status=FAILED, seconds=3.0, exit_code=2, error='no | memory')
    return [read_result(cell, 20) for cell in plan.cells]


def test_numbers_of_the_markdown_table(results):
    rows = [[cell.strip() for cell in line.strip('|').split('|')] for line in markdown_table(results).splitlines()]
    assert rows[0] == [
        'choice', 'student, last', 'student, best', 'teacher, last', 'teacher, best', 'random init', 'hidden, %',
        's per cell', 'seeds finished', 'failed',
    ]  # fmt: skip

    def shown(one: float, two: float) -> str:
        return f'{(one + two) / 2:.1f} ± {statistics.stdev([one, two]):.1f}'

    assert rows[2] == [
        'mst', shown(50.0, 53.0), f'{shown(60.0, 53.0)} (4/8)', shown(41.25, 44.0), f'{shown(41.25, 44.0)} (8/8)',
        shown(17.0, 18.0), f'{100 * (0.01 + 0.02 + 0.01 + 1.02) / 4:.1f}', '100', '2 of 2', '0',
    ]  # fmt: skip
    assert shown(50.0, 53.0) == '51.5 ± 2.1', 'the sample deviation: |50 - 53| / sqrt(2)'
    # One seed has no deviation; the failed one, which was better, is left out; no masker hides nothing.
    assert rows[3] == ['none', '0.3', '0.3 (8)', '2.0', '2.0 (8)', '17.0', '0.0', '7', '1 of 2', '1']


def test_the_csv_table_has_every_cell_unrounded(results):
    rows = list(csv.DictReader(io.StringIO(csv_table(results, 20))))
    assert [(row['choice'], row['seed'], row['status']) for row in rows] == [
        ('mst', '0', 'finished'),
        ('none', '0', 'finished'),
        ('mst', '1', 'finished'),
        ('none', '1', 'failed'),
    ]
    assert rows[0]['model.masker'] == 'mst'
    assert (rows[0]['student_best'], rows[0]['student_best_epoch']) == ('60.0', '4')
    assert (rows[0]['student_last'], rows[0]['student_last_epoch']) == ('50.0', '8')
    assert float(rows[1]['student_last']) == 1 / 3
    assert float(rows[2]['hidden_fraction']) == statistics.fmean([0.01, 1.02])
    assert (rows[3]['exit_code'], rows[3]['error'], rows[3]['student_last']) == ('2', 'no | memory', '')


def test_spread_and_curves_are_those_of_the_statistics_module():
    values = [50.0, 53.0, 51.3]
    assert spread([*values, None]) == (statistics.fmean(values), statistics.stdev(values))
    assert spread([50.0]) == (50.0, None)
    assert spread([None]) is None
    assert mean_curve([{0: 1.0, 2: 4.0}, {0: 2.0, 2: 6.0, 4: 9.0}]) == {0: 1.5, 2: 5.0}
    assert mean_curve([]) == {}


def test_a_small_bank_has_a_smaller_k(tmp_path):
    (cell,) = make(tmp_path, 'model.masker=mst').cells
    record_run(cell.folder, dict(backbone={0: 3.0, 1: 5.0}))
    cell.write(status=FINISHED, seconds=1.0)
    result = read_result(cell, 200)
    assert result.curves == {'backbone': {0: 3.0, 1: 5.0}}, 'clipped to 20, which the bank could give'
    assert branches([result]) == ['backbone']
    assert result.hidden is None, 'nobody said'
    assert '| 5.0 | 5.0 (1) | 3.0 | – |' in markdown_table([result])


def test_the_plot_shows_each_choice_once(results, tmp_path, monkeypatch):
    drawn: dict[str, Any] = {}
    monkeypatch.setattr(ablation_report, 'draw_curves', lambda panels, *_, **more: drawn.update(panels, **more))
    draw_report(results, tmp_path / 'x.png', 20)
    assert list(drawn) == ['student', 'teacher', 'untrained']
    assert drawn['untrained'] == statistics.fmean([17.0, 17.0, 18.0])
    labeled = [curve for curve in drawn['student'] if curve.label]
    assert [(curve.label, curve.points) for curve in labeled] == [
        ('mst', [(0, 17.5), (4, 45.0), (8, 51.5)]),
        ('none', [(0, 17.0), (8, 1 / 3)]),
    ]
    faint = [curve for curve in drawn['student'] if curve.faint]
    assert [dict(curve.points) for curve in faint] == STUDENT
    assert {curve.color for curve in faint} == {labeled[0].color}


def test_everything_is_written(tmp_path):
    plan = make(tmp_path, 'model.masker=mst,none')
    write_report(plan, 20)
    page = (tmp_path / 'work' / 'ablation.md').read_text()
    assert '| mst | – | – | – | – | – | – | – | 0 of 1 | 0 |' in page
    assert 'ablation.png' not in page
    for cell, status in zip(plan.cells, (FINISHED, FAILED), strict=True):
        record_run(cell.folder, dict(student=STUDENT[0], teacher=TEACHER[0]))
        cell.write(status=status, seconds=1.0, exit_code=2, error='no | memory')
    table = write_report(plan, 20)
    page = (tmp_path / 'work' / 'ablation.md').read_text()
    assert table in page
    assert '![k-NN over epochs](ablation.png)' in page
    assert '| none, seed 0 | 2 | no \\| memory |' in page
    assert (tmp_path / 'work' / 'ablation.csv').read_text().count('\n') == 3
    with Image.open(tmp_path / 'work' / 'ablation.png') as image:
        assert image.size[0] > image.size[1] > 300
