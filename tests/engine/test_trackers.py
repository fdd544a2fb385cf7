"""Trackers of experiments: what is added to the config, what they are told, and who does not tell them."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from unittest.mock import MagicMock

import numpy as np
import pytest
from mmengine.config import Config

from mstkit.engine.config.trackers import TRACKERS, add_trackers, without_trackers
from mstkit.engine.launch.launch import build_runner
from mstkit.errors import UsageError
from mstkit.registry import VISBACKENDS
from mstkit.visualization.tracker_backends import MLflowTracker, WandbTracker
from tests.programs import load_program

from . import toy

VARIABLES = ('WANDB_PROJECT', 'WANDB_NAME', 'MLFLOW_EXPERIMENT_NAME', 'MLFLOW_RUN_NAME', 'MLFLOW_TRACKING_URI')
FILES = dict(type='LocalVisBackend')


@pytest.fixture(autouse=True)
def packages(monkeypatch) -> dict[str, MagicMock]:
    """Of wandb and mlflow, in place of those that are installed: what they are told."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    made: dict[str, MagicMock] = {}
    for name in ('wandb', 'mlflow'):
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        made[name] = MagicMock()
        module.__getattr__ = made[name].__getattr__  # type: ignore[method-assign]
        monkeypatch.setitem(sys.modules, name, module)
    return made


def config_of(tmp_path, **changes) -> Config:
    config = Config(dict(toy.settings(), work_dir=str(tmp_path / 'my_run'), experiment_name=f'tracked_{tmp_path.name}'))
    config.visualizer = dict(type='Visualizer', vis_backends=[FILES], **changes)
    return config


def test_a_run_has_the_name_of_its_folder_and_variables_win(tmp_path, packages, monkeypatch):
    config = config_of(tmp_path)
    assert add_trackers(config, ['wandb', 'mlflow', 'wandb']) == ['tracked by wandb, mlflow, as my_run']
    backends = [dict(type=f'mstkit.{name}', run='my_run') for name in ('WandbTracker', 'MLflowTracker')]
    assert config.visualizer.vis_backends == [FILES, *backends]
    WandbTracker(str(tmp_path), 'my_run').add_scalar('loss', 1.0)
    MLflowTracker(str(tmp_path), 'my_run').add_scalar('loss', 1.0)
    told = packages['wandb'].init.call_args.kwargs
    assert (told['project'], told['name'], told['dir']) == ('mstkit', 'my_run', str(tmp_path))
    packages['mlflow'].set_experiment.assert_called_with('mstkit')
    packages['mlflow'].start_run.assert_called_with(run_name='my_run')
    for variable in VARIABLES:
        monkeypatch.setenv(variable, variable.lower())
    WandbTracker(str(tmp_path), 'my_run').add_scalar('loss', 1.0)
    MLflowTracker(str(tmp_path), 'my_run').add_scalar('loss', 1.0)
    assert packages['wandb'].init.call_args.kwargs == dict(dir=str(tmp_path))
    packages['mlflow'].set_experiment.assert_called_with('mlflow_experiment_name')
    packages['mlflow'].start_run.assert_called_with(run_name='mlflow_run_name')


def test_one_that_the_config_has_keeps_its_settings_and_a_measurement_has_none(tmp_path):
    config = config_of(tmp_path)
    own = dict(type='mmengine.WandbVisBackend', init_kwargs=dict(project='mine'))
    config.visualizer.vis_backends = [FILES, own]
    add_trackers(config, ['wandb', 'mlflow'])
    assert config.visualizer.vis_backends[:2] == [FILES, own] and len(config.visualizer.vis_backends) == 3
    without_trackers(config)
    assert config.visualizer.vis_backends == [FILES]


def test_what_cannot_be_told_is_refused(tmp_path, monkeypatch):
    config = config_of(tmp_path)
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with pytest.raises(UsageError, match='--track wandb: its package is not installed: pip install wandb'):
        add_trackers(config, ['wandb'])
    assert config.visualizer.vis_backends == [FILES]
    with pytest.raises(UsageError, match='--track mlflow: the config has no visualizer'):
        add_trackers(Config(dict(work_dir='w')), ['mlflow'])
    train = load_program('tools/train.py')
    monkeypatch.setattr(sys, 'argv', ['train.py', 'config.py', '--track', 'wandbb'])
    with pytest.raises(SystemExit):
        train.main()


def test_a_training_tells_them_its_losses(tmp_path, packages):
    config = config_of(tmp_path)
    add_trackers(config, ['wandb', 'mlflow'])
    build_runner(config).train()
    packages['wandb'].init.assert_called_once()
    logged = [call.args[0] for call in packages['wandb'].log.call_args_list]
    losses = [scalars['loss'] for scalars in logged if 'loss' in scalars]
    assert len(losses) > 1
    told = [call.args[0] for call in packages['mlflow'].log_metrics.call_args_list]
    assert [scalars['loss'] for scalars in told if 'loss' in scalars] == losses
    assert packages['wandb'].config.update.call_args.args[0]['work_dir'] == str(tmp_path / 'my_run')
    packages['wandb'].run.log_code.assert_not_called()
    packages['mlflow'].end_run.assert_called_once()


def test_what_is_measured_once_an_epoch_has_its_epoch_and_images_their_step(tmp_path, packages):
    wandb, mlflow = WandbTracker(str(tmp_path), 'run'), MLflowTracker(str(tmp_path), 'run')
    wandb.add_scalars({'knn/student_k20_top1': 50.0}, step=3)
    wandb.add_scalars({'loss': 1.0, 'iter': 7}, step=7)
    logged = [call.args[0] for call in packages['wandb'].log.call_args_list]
    assert logged == [{'knn/student_k20_top1': 50.0, 'epoch': 3}, {'loss': 1.0, 'iter': 7}]
    packages['wandb'].define_metric.assert_any_call(name='knn/*', step_metric='epoch')
    mlflow.add_image('panels', np.zeros((2, 2, 3), np.uint8), step=3)
    assert packages['mlflow'].log_image.call_args.args[1] == 'panels/00003.png'


@pytest.mark.parametrize('message', ['', ' ', '\n'])
def test_a_failure_without_words_does_not_end_the_training_either(tmp_path, packages, message):
    packages['wandb'].log.side_effect = ConnectionError(message)
    tracker = WandbTracker(str(tmp_path), 'run')
    tracker.add_scalar('loss', 1.0)
    assert tracker.missed == 1


def test_a_tracker_that_is_not_reached_stops_the_run_at_its_start(tmp_path, packages):
    packages['wandb'].init.side_effect = RuntimeError('api_key not configured (no-tty).\nCall wandb.login.')
    config = config_of(tmp_path)
    add_trackers(config, ['wandb'])
    wanted = (
        r'Weights & Biases cannot be told of the run: RuntimeError: api_key not configured \(no-tty\)\. '
        'Log in with "wandb login", or set WANDB_MODE=offline'
    )
    with pytest.raises(UsageError, match=wanted):
        build_runner(config)


@pytest.mark.parametrize('name', ['wandb', 'mlflow'])
def test_a_tracker_that_is_lost_does_not_end_the_training(tmp_path, packages, monkeypatch, name):
    said: list[str] = []
    monkeypatch.setattr('mstkit.visualization.tracker_backends._warn', said.append)
    tell = dict(wandb='log', mlflow='log_metrics')[name]
    getattr(packages[name], tell).side_effect = ConnectionError('the network is gone\nretry')
    config = config_of(tmp_path)
    add_trackers(config, [name])
    runner = build_runner(config)
    runner.train()
    assert runner.iter == runner.max_iters
    [first, last] = said
    assert first.endswith('did not take a record, and the run goes on without it: ConnectionError: the network is gone')
    missed = len(getattr(packages[name], tell).call_args_list)
    assert missed > 1 and f'did not take {missed} records; the files of the work dir have them' in last


def test_each_is_a_backend():
    for known in TRACKERS.values():
        assert VISBACKENDS.get(known.backend) is not None and VISBACKENDS.get(known.mmengine) is not None
