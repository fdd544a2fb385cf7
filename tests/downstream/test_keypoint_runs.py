"""Keypoints from a pre-trained backbone: trained, measured, resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

from mstkit.engine.launch.launch import build_runner, load_config
from mstkit.engine.launch.measure import measure_checkpoint
from mstkit.interop import read_checkpoint

from ..engine.running import same
from . import running
from .running import ARCH, ROOT, WITHOUT_WORKERS, losses_of
from .toy_keypoints import write_keypoints

TINY = ROOT / 'configs' / 'downstream' / 'keypoints' / 'keypoints_vit-tiny_folder.py'
EPOCHS = 6


def load(work_dir: Path, root: Path, **arguments: Any) -> Config:
    sizes = {f'{name}_dataloader.dataset.pipeline.1.size': (48, 48) for name in ('train', 'val', 'test')}
    options = {
        **ARCH,
        **WITHOUT_WORKERS,
        **sizes,
        'model.backbone.img_size': 48,
        'model.head.in_channels': 48,
        'model.head.channels': 32,
        'train_dataloader.batch_size': 8,
        'train_cfg.val_interval': 3,
        'param_scheduler': [],
        'optim_wrapper.optimizer.lr': 3e-3,
        'optim_wrapper.precision': 'fp32',
        'experiment_name': f'keypoints-{work_dir.name}',
    }
    return load_config(TINY, options, str(root), str(work_dir), epochs=EPOCHS, **arguments)[0]


@pytest.fixture(scope='module')
def made(tmp_path_factory) -> dict[str, Any]:
    return dict(folder=tmp_path_factory.mktemp('keypoints'))


@pytest.fixture
def trained(made, pretrained) -> dict[str, Any]:
    if 'runner' not in made:
        made['root'] = write_keypoints(made['folder'] / 'data', train=16, val=8)
        made['run'] = made['folder'] / 'run'
        made['runner'] = running.train(load(made['run'], made['root'], pretrained=str(pretrained)))
    return made


def test_it_learns_from_the_pretrained_backbone(trained, pretrained):
    losses = losses_of(trained['runner'])
    assert len(losses) == EPOCHS * 4
    assert sum(losses[-4:]) < 0.7 * sum(losses[:4]), losses
    said = running.log_of(trained['run'])
    assert f'backbone from {pretrained} (student): loaded 42 of 42 tensors (100.0 %)' in said
    assert "KeypointFolder: 32 of 'figure' with 3 keypoints in 16 images" in said
    found = trained['runner'].message_hub.get_scalar('val/keypoints/PCK@0.2').current()
    assert found > 40, 'one of twenty-five of random points'


def test_the_checkpoint_measures_as_the_run_validated(trained, tmp_path):
    scalars = trained['runner'].message_hub.log_scalars
    validated = {
        key.removeprefix('val/'): value.current() for key, value in scalars.items() if key.startswith('val/keypoints')
    }
    assert {'keypoints/AP', 'keypoints/AR', 'keypoints/PCK@0.2'} <= set(validated)
    assert measure_checkpoint(load(tmp_path, trained['root']), trained['run'] / f'epoch_{EPOCHS}.pth') == validated


def test_a_resumed_run_ends_bit_identical(trained, pretrained, tmp_path):
    middle = trained['run'] / f'epoch_{EPOCHS - 1}.pth'
    runner = build_runner(load(tmp_path, trained['root'], pretrained=str(pretrained), resume=str(middle)))
    runner.train()
    ends = [read_checkpoint(folder / f'epoch_{EPOCHS}.pth')['state_dict'] for folder in (tmp_path, trained['run'])]
    assert same(*ends)
    assert losses_of(runner) == losses_of(trained['runner'])
