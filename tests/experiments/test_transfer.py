"""From options to runs: their folders and command lines, and what is refused before any starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config

from mstkit.errors import UsageError
from mstkit.experiments import FINISHED
from mstkit.experiments.tasks import check_task
from mstkit.experiments.transfer import PRETRAINED, SCRATCH, FineTuning, Plan, TaskOptions, make_plan
from mstkit.experiments.transfer_source import read_source

from .toy_transfer import CONFIGS, DOWNSTREAM, log

CLASSIFIER = CONFIGS['classification']


def plan(checkpoint: Path, folder: Path, branch: str = 'student', **more: Any) -> Plan:
    """Of the classification; ``options`` are those of the task."""
    tasks = more.pop('tasks', {'classification': TaskOptions(CLASSIFIER, **more.pop('options', {}))})
    return make_plan(read_source(str(checkpoint), branch), tasks, folder / 'work', **more)


def test_every_task_start_and_seed_is_a_run(checkpoint, scenes, tmp_path):
    tasks = {
        task: TaskOptions(config, None if task == 'classification' else str(scenes)) for task, config in CONFIGS.items()
    }
    made = plan(checkpoint, tmp_path, tasks=tasks, seeds=(0, 5), from_scratch_too=True)
    assert [run.name for run in made.runs] == [
        f'{task}, {start}, seed {seed}' for task in tasks for start in (PRETRAINED, SCRATCH) for seed in (0, 5)
    ]
    assert len({run.folder for run in made.runs}) == len({run.fingerprint for run in made.runs}) == 12
    assert made.runs[3].folder == tmp_path / 'work' / 'detection' / 'random-init' / 'seed5'
    assert made.runs[0].arguments == [
        str(CONFIGS['detection']), '--work-dir', str(made.runs[0].folder), '--seed', '0',
        '--data-root', str(scenes), '--pretrained', str(checkpoint), '--branch', 'student',
    ]  # fmt: skip
    assert made.runs[2].arguments[-2:] == ['--data-root', str(scenes)]
    assert made.runs[4].arguments[-4:] == made.runs[0].arguments[-4:]
    assert [run.unit for run in made.runs[::4]] == ['epoch', 'iteration', 'epoch']
    assert str(made.source) == f'student of {checkpoint}, epoch 3'
    assert not (tmp_path / 'work').exists(), 'a plan writes nothing'


def test_lengths_are_epochs_or_iterations(checkpoint, scenes, tmp_path):
    tasks = {
        'segmentation': TaskOptions(CONFIGS['segmentation'], str(scenes), num_classes=11, length=70),
        'classification': TaskOptions(CLASSIFIER, length=3),
    }
    pixels, images = plan(checkpoint, tmp_path, tasks=tasks).runs
    assert isinstance(pixels, FineTuning) and isinstance(images, FineTuning)
    assert (pixels.length, pixels.unit) == (70, 'iteration')
    assert (images.length, images.unit) == (3, 'epoch')
    words = pixels.arguments
    assert words[words.index('--num-classes') :][:4] == ['--num-classes', '11', '--iterations', '70']
    assert '--iterations' not in images.arguments and '--epochs' in images.arguments
    loaded = pixels.load()
    assert loaded.train_cfg.max_iters == 70 and loaded.default_hooks.pretrained.checkpoint == str(checkpoint)
    assert images.load().train_cfg.max_epochs == 3
    assert plan(checkpoint, tmp_path).runs[0].length == Config.fromfile(CLASSIFIER).train_cfg.max_epochs


def test_a_length_in_other_units_than_the_log_is_not_compared(checkpoint, tmp_path):
    own = tmp_path / 'own.py'
    own.write_text(f"_base_ = ['{CLASSIFIER}']\ndefault_hooks = dict(logger=dict(log_metric_by_epoch=False))")
    (run,) = plan(checkpoint, tmp_path, tasks={'classification': TaskOptions(own)}).runs
    assert (run.length, run.unit) == (None, 'epoch')


def test_an_unknown_task_comes_with_the_nearest(checkpoint, tmp_path):
    assert check_task('detection') == 'detection'
    with pytest.raises(UsageError, match=r"no task 'segmentaton', only detection, .* Did you mean segmentation"):
        plan(checkpoint, tmp_path, tasks={'segmentaton': TaskOptions(CLASSIFIER)})
    with pytest.raises(UsageError, match='no task to train'):
        plan(checkpoint, tmp_path, tasks={})


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(config='nowhere.py'), 'no config file nowhere.py'),
        (dict(config=CONFIGS['detection'], data_root='nowhere'), '--data-root nowhere: there is no such folder'),
        (dict(config=CLASSIFIER, data_root='.'), 'this config generates its own images'),
        (dict(config=CLASSIFIER, length=0), '--epochs is a whole number from 1, not 0'),
        (dict(config=CLASSIFIER, num_classes=0), '--num-classes is a whole number from 1, not 0'),
        (dict(config=DOWNSTREAM.parent / 'demo' / 'mst_vit-nano_scenes.py'), 'for the configs in configs/downstream'),
    ],
)
def test_options_that_do_not_fit(checkpoint, tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        plan(checkpoint, tmp_path, tasks={'classification': TaskOptions(**options)})
    assert not (tmp_path / 'work').exists()


def test_checkpoints_that_cannot_be_used(checkpoint, tmp_path):
    with pytest.raises(UsageError, match=r'nowhere\.pth does not exist'):
        read_source(str(tmp_path / 'nowhere.pth'))
    with pytest.raises(UsageError, match='the checkpoint has no teacher'):
        read_source(str(checkpoint), 'teacher')
    with pytest.raises(UsageError, match="branch 'techer' is unknown"):
        read_source(str(checkpoint), 'techer')


def test_a_backbone_of_another_shape_is_found_before_anything_is_trained(checkpoint, tmp_path):
    wider = tmp_path / 'wider.py'
    wider.write_text(f"_base_ = ['{CLASSIFIER}']\nmodel = dict(backbone=dict(arch=dict(embed_dims=192)))")
    with pytest.raises(UsageError, match=r'epoch_3\.pth does not fit .*width 128.*width 192'):
        plan(checkpoint, tmp_path, tasks={'classification': TaskOptions(wider)})


def test_other_settings_in_the_same_folder_are_refused(checkpoint, tmp_path):
    for run in plan(checkpoint, tmp_path, from_scratch_too=True).runs:
        run.write(status=FINISHED, seconds=1.0)
    assert plan(checkpoint, tmp_path, from_scratch_too=True, seeds=(0, 1)), 'more seeds are no other settings'
    with pytest.raises(UsageError, match=r'seed0 holds a run with other settings \(.*classifier_vit-nano_scenes\.py'):
        plan(checkpoint, tmp_path, options=dict(length=3))
    record = tmp_path / 'work' / 'classification' / 'pre-trained' / 'seed0' / 'run.json'
    record.write_text('{"status": "')
    with pytest.raises(UsageError, match=r'run\.json is not a record of a run'):
        plan(checkpoint, tmp_path)


def test_a_checkpoint_written_anew_is_another_one(checkpoint, tmp_path):
    """The same file name says nothing: the table would show the numbers of weights that are gone."""
    own = tmp_path / 'epoch_3.pth'
    own.write_bytes(checkpoint.read_bytes())
    for run in plan(own, tmp_path, from_scratch_too=True).runs:
        run.write(status=FINISHED, seconds=1.0)
    content = torch.load(own, weights_only=True)
    content['state_dict']['backbone.cls_token'] += 1
    torch.save(content, own)
    with pytest.raises(UsageError, match='the checkpoint or the config has changed'):
        plan(own, tmp_path, from_scratch_too=True)
    (tmp_path / 'work' / 'classification' / 'pre-trained' / 'seed0' / 'run.json').unlink()
    assert plan(own, tmp_path, from_scratch_too=True), 'runs from random weights do not depend on it'


def test_what_was_measured_before_is_not_mixed_up(checkpoint, tmp_path):
    (run,) = plan(checkpoint, tmp_path).runs
    run.write(status='failed', seconds=1.0)
    assert plan(checkpoint, tmp_path, options=dict(length=3)), 'nothing is left of it'
    log(run, (1, {'accuracy/top1': 50.0}))
    with pytest.raises(UsageError, match='other settings'):
        plan(checkpoint, tmp_path, options=dict(length=3))
    (run.folder / 'run.json').unlink()
    with pytest.raises(UsageError, match=r'a run without run\.json'):
        plan(checkpoint, tmp_path)
    assert json.dumps(run.about)
