"""The training tools that come with mmdet and mmseg run our configs, from any working directory."""

from __future__ import annotations

import subprocess
from typing import Any, NamedTuple

import pytest

from mstkit import toolbox
from mstkit.interop import read_checkpoint

from .. import warm
from . import running
from .running import ARCH, TASKS, WITHOUT_WORKERS


class Own(NamedTuple):
    """What is told the tool of a toolbox, and what it has to say and to leave."""

    package: str
    options: dict[str, Any]
    checkpoint: str
    tensors: int
    metric: str


OWN = dict(
    detection=Own(
        'mmdet',
        {'train_cfg.max_epochs': 1, 'train_cfg.val_interval': 1, 'train_dataloader.dataset.indices': 2},
        'epoch_1.pth',
        42,
        'coco/segm_mAP: ',
    ),
    segmentation=Own(
        'mmseg',
        {'train_cfg.max_iters': 2, 'train_cfg.val_interval': 2, 'default_hooks.checkpoint.interval': 2},
        'iter_2.pth',
        40,
        'mIoU: ',
    ),
)


@pytest.mark.parametrize('name', OWN)
def test_the_tool_of_the_toolbox_trains_our_config(name, scenes, pretrained, tmp_path):
    task, own = TASKS[name], OWN[name]
    folder = tmp_path / 'elsewhere'
    folder.mkdir()
    roots = {f'{loader}_dataloader.dataset.data_root': scenes for loader in ('train', 'val', 'test')}
    if name == 'detection':
        annotations = scenes / 'annotations' / 'instances_train2017.json'
        roots |= {f'{part}_evaluator.ann_file': annotations for part in ('val', 'test')}
    start = {'default_hooks.pretrained.checkpoint': pretrained}
    options = {**ARCH, **WITHOUT_WORKERS, **task.options, **roots, **own.options, **start}
    command = [
        toolbox.find_tool(own.package, 'train'),
        task.config,
        '--work-dir',
        'here',
        '--cfg-options',
        *running.words(options),
    ]
    result = subprocess.run(
        [warm.foundations_python(), *map(str, command)],
        cwd=folder,
        env=running.environment(tmp_path / 'modules'),
        capture_output=True,
        text=True,
        timeout=400,
    )
    said = result.stdout + result.stderr
    assert result.returncode == 0, said[-3000:]
    assert f'backbone from {pretrained} (student): loaded {own.tensors} of {own.tensors} tensors (100.0 %)' in said
    assert own.metric in said
    noted = read_checkpoint(folder / 'here' / own.checkpoint)['message_hub']['runtime_info']['pretrained']
    assert noted == dict(file=str(pretrained), branch='student', epoch=1)
    assert [path.name for path in folder.iterdir()] == ['here'], 'nothing beside the work dir'
