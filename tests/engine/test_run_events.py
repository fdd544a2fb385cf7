"""What a training records of itself: every process in one file, in a form that needs no reading of the log's words."""

from __future__ import annotations

import json

import pytest
from mmengine.hooks import Hook

from mstkit.engine.launch.launch import build_runner
from mstkit.report.recorded_events import read_events
from mstkit.utils.json_lines import append_line

from . import running


def lines(folder):
    return [json.loads(line) for line in (folder / 'events.jsonl').read_text().splitlines()]


class Break(Hook):
    """Warns of every iteration, and stops in the one of a number."""

    def __init__(self, at: int) -> None:
        self.at = at

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        runner.logger.warning('careful\nwith details')
        runner.logger.info('an iteration')
        if runner.iter == self.at:
            raise RuntimeError('out of patience')


def test_a_run_that_is_stopped_and_resumed_is_recorded_in_one_file(tmp_path, monkeypatch):
    monkeypatch.setattr(
        'mstkit.engine.checkpoints.resumable_runner.collect_env', lambda: {'Python': '3', 'sys.platform': 'x'}
    )
    runner = running.build(tmp_path)
    runner.events.changes += ['data root images']
    assert not (tmp_path / 'events.jsonl').exists(), 'it has not trained'
    runner.register_hook(Break(at=5))
    with pytest.raises(RuntimeError, match='out of patience'):
        runner.train()
    start, *notes, training = [line for line in lines(tmp_path) if line['event'] in ('start', 'note', 'training')]
    assert (start['processes'], start['seed'], start['changes']) == (1, runner.seed, ['data root images'])
    assert start['environment']['Python'] == '3'
    assert start['environment']['seed'] == str(runner.seed)
    assert any('global batch' in note['text'] for note in notes)
    assert not any(word in note['text'] for note in notes for word in ('an iteration', 'Config:', 'Hooks will be'))
    assert (training['iteration'], training['epoch_length']) == (1, 4)
    assert [line['event'] for line in lines(tmp_path)][-2:] == ['warning', 'stop'], 'the log says it too'

    events = read_events(tmp_path / 'events.jsonl')
    assert events.warnings['careful'] == 6
    assert events.stop is not None
    assert (events.stop.kind, events.stop.reason) == ('failed', 'RuntimeError: out of patience')
    assert (events.seed, events.processes, events.epoch_length, events.damaged) == (runner.seed, 1, 4, 0)
    assert events.chosen[0] == 'data root images'

    running.train(tmp_path, resume=True)
    again = read_events(tmp_path / 'events.jsonl')
    assert [line['iteration'] for line in lines(tmp_path) if line['event'] == 'training'] == [1, 5]
    assert again.stop is None, 'it was trained on'
    assert set(events.chosen) <= set(again.chosen)


def test_a_line_that_was_cut_off_damages_no_other(tmp_path):
    file = tmp_path / 'new' / 'events.jsonl'
    append_line(file, dict(event='note', text='one'))
    append_line(file, dict(event='note', text='caf\udce9'))
    file.write_bytes(file.read_bytes()[:-5])
    append_line(file, dict(event='note', text='three'))
    events = read_events(file)
    assert (events.chosen, events.damaged) == (['one', 'three'], 1)


def test_a_runner_that_only_measures_leaves_no_record(tmp_path):
    runner = running.build(tmp_path)
    runner.logger.warning('something')
    assert not (tmp_path / 'events.jsonl').exists()


def test_what_the_command_line_changed_is_handed_on(tmp_path):
    config = running.build(tmp_path / 'one').cfg
    config.work_dir, config.experiment_name = str(tmp_path / 'two'), f'{config.experiment_name}_again'
    assert build_runner(config, ['epochs: 5 -> 3']).events.changes == ['epochs: 5 -> 3']
