"""How a run ended: in order, diverged, crashed, interrupted or killed, by its log, its losses and its screen."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import pytest

from mstkit.engine.checkpoints.run_ending import log_why_it_stopped
from mstkit.engine.hooks.non_finite_hook import NonFiniteLossError
from mstkit.errors import UsageError
from mstkit.report import build_page, read_run
from mstkit.report.run_facts import RunRecord
from mstkit.report.run_verdict import divergence, progress, verdict
from mstkit.utils.json_lines import append_line

from .toy import EVENTS, STAMP, age, make_downstream, make_run, training, write_lines

NOW = 2_000_000_000.0
STEP = dict(event='training', iteration=21, epoch_length=10)
LOST = (
    'the loss is no longer finite: head.loss_ce = nan, at iteration 27 (epoch 3). The last good checkpoint is '
    'x/epoch_2.pth. What helps: resume from it with a lower learning rate.'
)
ADRIFT = 'the weights are no longer finite, first head.weight, at iteration 27 (epoch 3); no checkpoint is written.'


def stop(reason, kind='failed'):
    return dict(event='stop', kind=kind, reason=reason, iteration=27, epoch=3)


def say(folder, *records):
    """Adds to the events of a run."""
    for record in records:
        append_line(folder / 'events.jsonl', record)


def said_of(run: RunRecord) -> str:
    """What the report says of its divergence."""
    said = divergence(run)
    assert said is not None
    return said


def log_losses(folder, iterations, stamp=STAMP, **losses):
    """Writes the scalars of a run: finite ones, with others from some iteration on."""
    lines = training(range(1, iterations.start)) + [{**line, **losses} for line in training(iterations)]
    write_lines(folder / stamp / 'vis_data' / 'scalars.json', lines)


@pytest.mark.parametrize('reason', [LOST, ADRIFT])
@pytest.mark.parametrize('epochs', [2, 4], ids=['before its end', 'in its last epoch'])
def test_a_run_that_was_stopped_because_it_diverged_says_where_and_why(tmp_path, reason, epochs):
    folder = make_run(tmp_path / 'run', epochs=epochs)
    say(folder, stop(reason, 'diverged'))
    run = read_run(folder)
    assert run.state == 'diverged'
    assert run.error == reason, 'whole, however long'
    words = (
        f'Stopped after {epochs} of 4 epochs, at iteration 27 (epoch 3), because its loss or its weights were no longer'
    )
    assert progress(run).startswith(words)
    assert verdict(run)[1][-1] == 'That says nothing about the end of the run: it diverged.'
    page = build_page([folder])
    assert reason in page
    assert '</span>finished' not in page


def test_of_a_run_without_a_record_the_tool_that_started_it_knows_the_reason(tmp_path):
    folder = make_run(tmp_path / 'run', epochs=2)
    (folder / 'events.jsonl').unlink()
    (folder / 'cell.json').write_text(json.dumps(dict(status='failed', error=LOST)))
    run = read_run(folder)
    assert (run.state, run.events.stop, run.error) == ('failed', None, LOST)
    assert LOST in build_page([folder])


@pytest.mark.parametrize('value', [math.nan, math.inf])
def test_a_run_whose_losses_end_in_nan_is_not_finished(tmp_path, value):
    """As under mmengine's own Runner, which trains on to the last epoch and exits with 0."""
    folder = make_run(tmp_path / 'run')
    log_losses(folder, range(26, 41), loss=value, loss_ce=value)
    for epoch in (1, 2, 3):
        (folder / f'epoch_{epoch}.pth').touch()
    (folder / 'cell.json').write_text(json.dumps(dict(status='finished')))
    run = read_run(folder)
    assert run.state == 'diverged'
    assert progress(run) == '4 of 4 epochs. Its loss was not finite at the end.'
    assert said_of(run) == (
        f'The log has loss_ce = {value} from iteration 26 (epoch 3) on: weights that were saved after that are of no '
        'use; the last checkpoint from before is epoch_2.pth.'
    )
    page = build_page([folder])
    assert said_of(run) in page
    assert '</span>finished' not in page


def test_the_same_of_a_fine_tuning(tmp_path):
    folder = make_downstream(tmp_path / 'run')
    log_losses(folder, range(5, 21), loss=math.nan, loss_cls=math.nan, loss_mask=math.nan, acc=math.nan)
    run = read_run(folder)
    assert run.state == 'diverged'
    assert 'loss_cls = nan and loss_mask = nan from iteration 5 (epoch 1) on' in said_of(run)
    assert said_of(run).endswith('no checkpoint is known to be from before.')


def test_of_a_run_that_counts_iterations(tmp_path):
    config = "model = dict(type='EncoderDecoder')\ntrain_cfg = dict(max_iters=20)\n"
    folder = make_run(tmp_path / 'run', epochs=2, config=config)
    for name in ('knn.jsonl', 'collapse.jsonl', 'epoch_2.pth'):
        (folder / name).unlink()
    for iteration in (5, 10, 20):
        (folder / f'iter_{iteration}.pth').touch()
    log_losses(folder, range(12, 21), **{'decode.loss_ce': math.nan, 'loss': math.nan})
    run = read_run(folder)
    assert (run.state, run.unit) == ('diverged', 'iteration')
    assert 'decode.loss_ce = nan from iteration 12 on' in said_of(run)
    assert 'from before is iter_10.pth' in said_of(run)


@pytest.mark.parametrize(
    'broken',
    [dict(loss=math.nan), dict(grad_norm=math.inf), dict(acc=math.nan)],
    ids=['a loss that came back', 'a gradient that fp16 skips', 'an accuracy'],
)
def test_other_numbers_that_are_not_finite_leave_a_run_finished(tmp_path, broken):
    folder = make_run(tmp_path / 'run')
    lines = training(range(1, 41))
    for line in lines if 'loss' not in broken else lines[20:30]:
        line.update(broken)
    write_lines(folder / STAMP / 'vis_data' / 'scalars.json', lines)
    run = read_run(folder)
    assert (run.state, progress(run), divergence(run)) == ('finished', '4 of 4 epochs.', None)


@pytest.mark.parametrize(
    'reason',
    [
        'RuntimeError: out of patience',
        '2 of 60 images could not be read, more than max_unreadable allows.',
        'epoch_3.pth cannot be written: the disk is full (0 bytes are free).',
    ],
)
def test_a_crash_shows_its_reason_at_once(tmp_path, reason):
    folder = make_run(tmp_path / 'run', epochs=2)
    age(folder, 60, NOW)
    say(folder, stop(reason))
    run = read_run(folder, now=NOW)
    assert (run.state, run.error) == ('failed', reason)
    assert progress(run).startswith('Failed after 2 of 4 epochs, at iteration 27 (epoch 3), last sign of life 20')
    assert reason in build_page([folder])


def test_a_crash_after_the_last_epoch_is_none_the_less_one(tmp_path):
    folder = make_run(tmp_path / 'run')
    say(folder, stop('RuntimeError: out of patience'))
    assert read_run(folder).state == 'failed'


@pytest.mark.parametrize('silence', [60, 3600])
def test_an_interrupted_run_is_stopped(tmp_path, silence):
    folder = make_run(tmp_path / 'run', epochs=2)
    say(folder, stop('interrupted from the keyboard', 'interrupted'))
    age(folder, silence, NOW)
    run = read_run(folder, now=NOW)
    assert run.state == 'stopped'
    assert progress(run).startswith('Interrupted from the keyboard after 2 of 4 epochs')


def test_a_killed_run_has_said_nothing(tmp_path):
    folder = make_run(tmp_path / 'run', epochs=2)
    age(folder, 3600, NOW)
    run = read_run(folder, now=NOW)
    assert (run.state, run.error) == ('stopped', None)
    assert progress(run).startswith(
        'Broken off after 2 of 4 epochs; no reason was logged, so it was probably killed. Last'
    )


def test_what_stopped_an_earlier_process_is_over_when_a_later_one_trains(tmp_path):
    folder = make_run(tmp_path / 'run')
    said = dict(event='warning', level='ERROR', text=f'the run stopped at iteration 27 (epoch 3): {LOST}')
    say(folder, said, stop(LOST, 'diverged'))
    say(folder, EVENTS[0], dict(event='note', text='resumed epoch: 2'))
    assert read_run(folder).state == 'diverged', 'nothing was trained since'
    say(folder, STEP)
    run = read_run(folder)
    assert (run.state, run.error) == ('finished', None)
    assert any(LOST[:40] in warning for warning in run.events.warnings), 'it can still be read'
    say(folder, stop('RuntimeError: new'))
    assert read_run(folder).error == 'RuntimeError: new'


@pytest.mark.parametrize(
    ('error', 'state', 'said'),
    [
        (NonFiniteLossError(LOST), 'diverged', LOST),
        (UsageError('2 of 60 images could not be read.'), 'failed', '2 of 60 images could not be read.'),
        (RuntimeError('out of patience\nand more'), 'failed', 'RuntimeError: out of patience'),
        (KeyboardInterrupt(), 'stopped', 'interrupted from the keyboard'),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_a_training_writes_is_what_the_report_reads(tmp_path, error, state, said):
    folder = make_run(tmp_path / 'run', epochs=2)
    said_in_log: list[str] = []
    logger = SimpleNamespace(error=said_in_log.append)
    log_why_it_stopped(SimpleNamespace(iter=27, epoch=2, logger=logger, work_dir=folder), error)
    run = read_run(folder)
    assert run.events.stop is not None
    assert (run.state, run.error, run.events.stop.iteration, run.events.stop.epoch) == (state, said, 27, 3)
    assert said_in_log == [f'the run stopped at iteration 27 (epoch 3): {said}']
