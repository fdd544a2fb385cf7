"""What is read from work dirs: whole ones, cut off ones, resumed ones, and folders of ablations and transfers."""

from __future__ import annotations

import html
import json
import math

import pytest

from mstkit.errors import UsageError
from mstkit.models.heads.dino_head import DINOHead
from mstkit.models.momentum_teacher import MomentumTeacher
from mstkit.report import build_page, read_run
from mstkit.report.report_sources import read_sources
from mstkit.report.run_charts import charts_comparing, charts_of, quantities
from mstkit.report.run_configs import differences, flatten
from mstkit.report.run_numbers import accuracies, hidden_share, training_seconds
from mstkit.report.run_records import read_scalars
from mstkit.report.run_verdict import COLLAPSED, EARLY, FINE, progress, prototypes, verdict
from mstkit.structures import Progress
from mstkit.utils.json_lines import append_line

from .toy import CONFIG, EVENTS, STAMP, age, make_ablation, make_downstream, make_run, training, write_lines

NOW = 2_000_000_000.0


def curve(run, name):
    return next(list(one.points) for one in quantities(run) if one.name == name)


def test_a_whole_run(tmp_path):
    run = read_run(make_run(tmp_path / 'run'))
    assert run.missing == []
    assert (run.state, run.reached, run.length, run.unit, run.epoch_length) == ('finished', 4, 4, 'epoch', 10)
    assert run.events.environment == {'Python': '3.11.7', 'PyTorch': '2.9.0', 'seed': '1234', 'GPU number': '1'}
    assert run.events.chosen == ['ImageFolder: 80 images in 5 classes in images/train']
    assert run.events.warnings == {'two things <script>alert(1)</script>': 2}
    assert curve(run, 'loss')[:2] == [(0.1, 5.0), (0.2, 4.5)]
    assert curve(run, 'student') == [(0, 30), (1, 35), (2, 40), (3, 45), (4, 50)]
    assert [(one.name, one.start, one.last, one.best) for one in accuracies(run, k=10)] == [
        ('k-NN, student', 20.0, (4, 24.0), (4, 24.0)),
        ('k-NN, teacher', 20.0, (4, 20.0), (1, 20.0)),
    ]
    assert hidden_share(run) == pytest.approx((2.5, 1.0, 4.0))
    assert training_seconds(run) == pytest.approx(40 * 0.5)
    command = f'python tools/train.py {tmp_path}/run/base.py --work-dir {tmp_path}/run_again --seed 1234'
    assert run.command() == command
    assert list(run.panels) == [0, 4]


def test_schedules_are_those_of_the_parts_themselves(tmp_path):
    run = read_run(make_run(tmp_path / 'run'))
    teacher = MomentumTeacher({}, momentum=0.9)
    points = dict(curve(run, 'momentum'))
    assert points[0.0] == 0.9
    assert points[2.0] == teacher.momentum_at(Progress(20, 40, 10)) == pytest.approx(0.95)
    assert points[4.0] == 1.0
    head = DINOHead(8, teacher_temp=0.04, warmup_teacher_temp=0.02, warmup_teacher_temp_epochs=3)
    assert curve(run, 'temperature') == [(epoch, head.teacher_temp_at(epoch)) for epoch in range(4)]


def test_lines_that_were_cut_off_are_counted_and_the_rest_is_read(tmp_path):
    folder = make_run(tmp_path / 'run', epochs=2)
    scalars = folder / STAMP / 'vis_data' / 'scalars.json'
    for file in (scalars, folder / 'knn.jsonl', folder / 'collapse.jsonl', folder / 'events.jsonl'):
        text = file.read_text()
        file.write_text(text[: len(text) - 20])
    run = read_run(folder, now=NOW)
    assert len(run.scalars.training) == 19
    assert [record['epoch'] for record in run.knn] == [0, 1]
    assert [sentence for sentence in run.missing if 'could not be read' in sentence] == [
        f'1 line of {name} could not be read, as of a run that was cut off.'
        for name in ('knn.jsonl', 'collapse.jsonl', 'scalars.json', 'events.jsonl')
    ]
    assert run.state == 'stopped'
    assert progress(run).startswith('Broken off after 2 of 4 epochs; no reason was logged, ')


def test_lines_of_another_kind_do_no_harm(tmp_path):
    folder = make_run(tmp_path / 'run')
    (folder / 'knn.jsonl').write_text('[1]\n{"epoch": "two"}\n{"epoch": 1, "branches": 3}\n\n{"epoch": 2}\n')
    (folder / 'collapse.jsonl').write_bytes(b'\xff\xfe\x00\n')
    (folder / 'events.jsonl').write_text(
        '{"event": "start", "environment": 3}\n{"event": "stop", "reason": "x"}\n{"text": "x"}\n[]\n{"event": "new"}\n'
    )
    (folder / 'panels' / 'epoch_002.png').write_bytes(b'no image')
    (folder / 'cell.json').write_text('{"status"')
    (folder / 'evaluation').mkdir()
    (folder / 'evaluation' / 'x.json').write_text('{"source": 3}')
    run = read_run(folder)
    assert run.knn == []
    assert '2 lines of knn.jsonl could not be read, as of a run that was cut off.' in run.missing
    assert '4 lines of events.jsonl could not be read, as of a run that was cut off.' in run.missing
    assert run.events.stop is None
    assert 'evaluation/x.json holds no results that can be read.' in run.missing


def test_a_run_is_going_stopped_or_failed(tmp_path):
    folder = make_run(tmp_path / 'run', epochs=2)
    age(folder, 60, NOW)
    assert read_run(folder, now=NOW).state == 'still going'
    age(folder, 3600, NOW)
    assert read_run(folder, now=NOW).state == 'stopped'
    append_line(
        folder / 'events.jsonl',
        dict(event='stop', kind='failed', reason='RuntimeError: out of patience', iteration=27, epoch=3),
    )
    age(folder, 3600, NOW)
    run = read_run(folder, now=NOW)
    assert (run.state, run.error) == ('failed', 'RuntimeError: out of patience')


def test_what_the_command_line_changed_comes_first(tmp_path):
    folder = make_run(tmp_path / 'run')
    start = {**EVENTS[0], 'changes': ['data root images for all']}
    write_lines(folder / 'events.jsonl', [start, *EVENTS[1:], {**start, 'seed': 1234}, *EVENTS[1:]])
    run = read_run(folder)
    assert run.events.chosen == ['data root images for all', 'ImageFolder: 80 images in 5 classes in images/train']
    assert run.events.warnings == {'two things <script>alert(1)</script>': 4}


def test_several_processes_are_started_again(tmp_path):
    folder = make_run(tmp_path / 'run', config=CONFIG.replace("launcher = 'none'", "launcher = 'pytorch'"))
    write_lines(folder / 'events.jsonl', [{**EVENTS[0], 'processes': 4}])
    command = f'bash tools/dist_train.sh {tmp_path}/run/base.py 4 --work-dir {tmp_path}/run_again --seed 1234'
    assert read_run(folder).command() == command


def test_a_run_without_a_record_of_events_still_gets_its_page(tmp_path):
    """As those of earlier versions, which said all this in their text log only."""
    folder = make_run(tmp_path / 'run', epochs=2)
    (folder / 'events.jsonl').unlink()
    (folder / STAMP / f'{STAMP}.log').write_text('2026/01/02 03:04:05 - mmengine - INFO - x\n')
    age(folder, 3600, NOW)
    run = read_run(folder, now=NOW)
    assert not run.events.recorded
    assert run.missing == [
        'There is no events.jsonl: environment, notes of the start, warnings and the reason of a stop are not '
        'recorded, as in runs of earlier versions and of other runners.'
    ]
    assert progress(run).startswith('Broken off after 2 of 4 epochs; why is not recorded. Last sign of life ')
    assert (run.state, run.epoch_length, len(run.scalars.training)) == ('stopped', 10, 20)
    assert run.command() == f'python tools/train.py {tmp_path}/run/base.py --work-dir {tmp_path}/run_again'
    assert run.missing[0] in html.unescape(build_page([folder]))


def test_what_is_missing_is_said(tmp_path):
    folder = tmp_path / 'run'
    write_lines(folder / 'knn.jsonl', [dict(epoch=0, k=20, branches=dict(student=dict(k20_top1=3.0)))])
    run = read_run(folder)
    assert [sentence.split(':')[0] for sentence in run.missing] == [
        'There is no config',
        'There is no events.jsonl',
        'No iteration of training was logged',
        'There is no collapse.jsonl',
        'There are no panels',
    ]
    assert run.command() == ''
    assert accuracies(run) == []


@pytest.mark.parametrize('name', ['empty', 'absent', 'other'])
def test_a_folder_without_logs_is_refused(tmp_path, name):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'other').mkdir()
    (tmp_path / 'other' / 'notes.txt').touch()
    with pytest.raises(UsageError, match=f'{name} holds no logs of a run|there is no folder .*absent'):
        read_sources([tmp_path / name])


def test_a_resumed_run_takes_the_place_of_what_it_did_again(tmp_path):
    first, second = tmp_path / '1' / 'scalars.json', tmp_path / '2' / 'scalars.json'
    write_lines(first, [*training(range(1, 8)), {'mIoU': 1.0, 'step': 3}, {'mIoU': 2.0, 'step': 6}])
    write_lines(second, [*training(range(6, 9), loss=9.0), {'mIoU': 5.0, 'step': 6}, {'knn/x': 1.0, 'step': 1}])
    scalars = read_scalars([first, second])
    assert [record['iter'] for record in scalars.training] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [value for _, value in scalars.curve('loss_ce', None)] == [4.0] * 5 + [9.0] * 3
    assert scalars.metrics() == {'mIoU': [(3.0, 1.0), (6.0, 5.0)]}


def test_the_config_is_not_executed(tmp_path):
    folder = make_run(tmp_path / 'run', config='import os\nos.abort()\n')
    run = read_run(folder)
    assert run.config is None
    assert run.config_text.startswith('import os')
    assert any('shown as text only' in sentence for sentence in run.missing)


def test_verdicts(tmp_path):
    folder = make_run(tmp_path / 'run')
    assert prototypes(read_run(folder)) == 64
    assert verdict(read_run(folder))[0] == FINE
    good = json.loads((folder / 'collapse.jsonl').read_text().splitlines()[0])
    write_lines(folder / 'collapse.jsonl', [good])
    assert verdict(read_run(folder))[0] == EARLY
    uniform = {**good, 'epoch': 3, 'teacher_entropy': math.log(64), 'findings': ['x']}
    write_lines(folder / 'collapse.jsonl', [good, uniform])
    word, sentences = verdict(read_run(folder))
    assert word == COLLAPSED
    assert sentences[0].startswith('uniform collapse: the teacher spreads every image evenly over all 64 prototypes')
    write_lines(folder / 'collapse.jsonl', [good, {**uniform, 'epoch': 2}, uniform, {**good, 'epoch': 4}])
    word, sentences = verdict(read_run(folder))
    assert word == FINE
    assert 'There were warnings in epochs 2 to 3, but not since.' in sentences


def test_downstream_metrics_are_percent_and_nothing_detected_is_zero(tmp_path):
    run = read_run(make_downstream(tmp_path / 'run'))
    assert curve(run, 'box AP') == [(1, 0.0), (2, 40.0)]
    assert curve(run, 'mask AP') == [(1, 0.0), (2, 10.0)]
    assert all(one.name != 'coco/bbox_mAP_l' for one in quantities(run)), '-1 where there are no large objects'
    assert [one.name for one in accuracies(run)] == ['box AP', 'mask AP']
    assert run.missing == [], 'it is no pre-training'


def test_an_ablation(tmp_path):
    (comparison,) = read_sources([make_ablation(tmp_path / 'abl')])
    assert [(group.name, len(group.runs)) for group in comparison.groups] == [('mst', 2), ('none', 2)]
    assert comparison.k == 10
    assert [run.state for run in comparison.runs] == ['finished', 'finished', 'finished', 'failed']
    charts = charts_comparing(comparison.groups, comparison.k)
    loss = next(chart for chart in charts['training'] if chart.title == 'loss_ce')
    assert [line.name for line in loss.lines] == ['mst', 'none']
    assert set(loss.lines[0].points) == {(i / 10, 3.5) for i in range(1, 41)}, 'the mean of 3 and 4'
    assert len(loss.lines[1].points) == 20, 'where both seeds have a value'
    assert len(loss.lines[0].behind) == 2
    student = next(chart for chart in charts['accuracy'] if chart.title == 'k-NN accuracy: student')
    assert student.lines[0].points[-1] == (4, 24.0), 'of k = 10, as the table of the ablation'
    assert hidden_share(comparison.runs[2]) is not None


def test_choices_that_were_never_started_are_named(tmp_path):
    folder = make_ablation(tmp_path / 'abl')
    with open(folder / 'ablation.csv', 'a') as file:
        file.write('block,block,0,waiting,10\n')
    (folder / 'ablation.md').unlink()
    (comparison,) = read_sources([folder])
    assert 'block has not been started.' in comparison.missing
    assert any('no ablation.md' in sentence for sentence in comparison.missing)


def test_a_transfer_has_a_comparison_per_task(tmp_path):
    for task in ('detection', 'segmentation'):
        for start in ('pre-trained', 'random-init'):
            folder = make_downstream(tmp_path / 'tr' / task / start / 'seed0')
            (folder / 'run.json').write_text(json.dumps(dict(status='finished', command='python x')))
    (tmp_path / 'tr' / 'transfer.md').write_text('# Transfer\n\nwords\n')
    plain = make_run(tmp_path / 'plain')
    comparisons = read_sources([tmp_path / 'tr', plain])
    assert [one.title for one in comparisons] == ['plain', 'Transfer tr: detection', 'Transfer tr: segmentation']
    assert [group.name for group in comparisons[1].groups] == ['pre-trained', 'random init']
    assert comparisons[1].page is not None
    assert comparisons[2].page is None, 'one page for all tasks'


def test_names_tell_work_dirs_apart(tmp_path):
    one, two = make_run(tmp_path / 'a' / 'run'), make_run(tmp_path / 'b' / 'run')
    (comparison,) = read_sources([one, two])
    assert [group.name for group in comparison.groups] == ['a/run', 'b/run']
    with pytest.raises(UsageError, match='given twice'):
        read_sources([one, one])


def test_differences_of_configs():
    one = dict(model=dict(type='A', parts=[dict(x=1), dict(y=2)]), work_dir='a', epochs=3, randomness=dict(seed=0))
    two = dict(model=dict(type='A', parts=[dict(x=1), dict(y=3)]), work_dir='b', epochs=9, randomness=dict(seed=None))
    assert flatten(one) == {'model.type': "'A'", 'model.parts.0.x': '1', 'model.parts.1.y': '2', 'randomness.seed': '0'}
    assert differences([one, two]) == [('model.parts.1.y', ['2', '3']), ('randomness.seed', ['0', 'None'])]
    assert differences([one, one]) == []
    assert differences([one, None])[0] == ('model.type', ["'A'", None])


def test_one_chart_holds_the_terms_of_a_run(tmp_path):
    charts = charts_of(read_run(make_run(tmp_path / 'run')))
    assert [chart.title for chart in charts['training']] == [
        'Loss terms',
        'Learning rate',
        'Teacher’s momentum',
        'Teacher’s temperature',
        'Time of an iteration',
    ]
    assert [line.name for line in charts['training'][0].lines] == ['loss', 'loss_ce']
    assert charts['collapse'][0].levels == {'ln K, K = 64': math.log(64)}


def test_without_the_length_of_an_epoch_curves_run_over_iterations(tmp_path):
    folder = make_run(tmp_path / 'run')
    (folder / 'events.jsonl').unlink()
    (folder / 'knn.jsonl').unlink()
    charts = charts_of(read_run(folder))
    assert charts['training'][0].x == 'iteration'
    assert charts['training'][0].lines[0].points[-1][0] == 40
