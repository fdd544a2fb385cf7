"""Tasks that are measured without training: their runs, what is read of them, and the way into table and page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mstkit.errors import UsageError
from mstkit.experiments import FINISHED
from mstkit.experiments.predictions import stack_images
from mstkit.experiments.transfer import Plan, TaskOptions, make_plan
from mstkit.experiments.transfer_report import csv_table, draw_plots, markdown_table, read_results, write_report
from mstkit.experiments.transfer_run import PRETRAINED, SCRATCH
from mstkit.experiments.transfer_source import Source
from mstkit.experiments.zero_shot import ZeroShot

SOURCE = Source('epoch_9.pth', 'teacher', 9, 'abcd', {})
RESULTS = {'box that does not move': dict(success=10.0, precision=20.0, ao=30.0)}


def plan_of(folder: Path, **changes: Any) -> Plan:
    options = dict(tracking=TaskOptions(None, 'videos'))
    return make_plan(
        **{**dict(source=SOURCE, tasks=options, folder=folder, seeds=(3, 4), from_scratch_too=True), **changes}
    )


def measured(run: ZeroShot, network: str, **values: float) -> None:
    run.folder.mkdir(parents=True, exist_ok=True)
    content = dict(results={**RESULTS, network: values}, frames_per_second={network: 9.0})
    (run.folder / 'tracking.json').write_text(json.dumps(content))


def test_random_weights_are_measured_with_each_seed_and_trained_ones_once(tmp_path):
    first, *random = plan_of(tmp_path).runs
    assert (first.start, first.seed, first.folder) == (PRETRAINED, 3, tmp_path / 'tracking' / 'pre-trained' / 'seed3')
    assert first.arguments == ['epoch_9.pth', '--branch', 'teacher', '--data', 'videos', '--out', str(first.folder)]
    assert [(run.start, run.seed) for run in random] == [(SCRATCH, 3), (SCRATCH, 4)]
    assert [run.arguments[0] for run in random] == ['random:epoch_9.pth@3', 'random:epoch_9.pth@4']
    assert first.program is not None and first.program.is_file()
    assert len({run.fingerprint for run in (first, *random)}) == 3
    assert first.command('tools/train.py').startswith(f'python {first.program} epoch_9.pth --branch teacher')
    with pytest.raises(UsageError, match='tracking is measured on a folder: give --data-root tracking=DIR'):
        plan_of(tmp_path, tasks=dict(tracking=TaskOptions(None)))


def test_what_is_read_and_what_is_not(tmp_path):
    run = plan_of(tmp_path).runs[0]
    assert isinstance(run, ZeroShot) and run.curves() == {} and run.headline() is None
    assert run.complaint() == 'it ended without having measured anything' and run.resume_arguments() == []
    measured(run, 'epoch_9', success=41.25, precision=50.0, ao=60.0)
    assert run.curves() == {'success': {1: 41.25}, 'precision': {1: 50.0}, 'AO': {1: 60.0}}
    assert run.headline() == 'success 41.2, precision 50.0, AO 60.0' and run.complaint() is None
    for damaged in ('{', '{"results": {}}', '{"results": {"a": {}}, "frames_per_second": {"a": 1}}'):
        (run.folder / 'tracking.json').write_text(damaged)
        with pytest.raises(UsageError, match=r'tracking\.json is damaged') as error:
            run.curves()
        assert run.headline() is None and run.complaint() == str(error.value)


def test_table_page_and_csv(tmp_path):
    plan = plan_of(tmp_path)
    for run, value in zip(plan.runs, (40.0, 20.0, 30.0), strict=True):
        assert isinstance(run, ZeroShot)
        measured(run, 'a', success=value, precision=0.0, ao=1.0)
        run.write(status=FINISHED, seconds=5.0, error=None)
    table = markdown_table(read_results(plan.runs))
    assert '| tracking | success | 40.0 | 25.0 ± 7.1 | +15.0 | 1 of 1, 2 of 2 |' in table
    assert draw_plots(plan, read_results(plan.runs)) == {}, 'a single number is no curve'
    write_report(plan, ['tracking_predictions.png'])
    page = (tmp_path / 'transfer.md').read_text()
    assert table in page and 'tracking: without training, by `tools/evaluation/tracking.py`, data in `videos`' in page
    assert '![tracking: predictions](tracking_predictions.png)' in page
    assert 'tracking,pre-trained,3,finished,5.0,1,epoch,success,40.0,%' in csv_table(read_results(plan.runs))


def test_pictures_stand_below_each_other(tmp_path):
    for name, size, value in (('a', (4, 6), 10), ('b', (3, 2), 200)):
        Image.fromarray(np.full((*size[::-1], 3), value, np.uint8)).save(tmp_path / f'{name}.png')
    stack_images([tmp_path / 'a.png', tmp_path / 'b.png'], tmp_path / 'both.png')
    with Image.open(tmp_path / 'both.png') as both:
        pixels = np.asarray(both)
    assert pixels.shape == (8, 4, 3)
    assert (pixels[:6] == 10).all() and (pixels[6:, :3] == 200).all() and (pixels[6:, 3] == 255).all()
