"""A fine-tuning that diverges stops, and what it had written before stays."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from mstkit.engine.hooks import AtomicCheckpointHook, NonFiniteLossHook
from mstkit.engine.launch.launch import build_runner
from mstkit.engine.runner.required_hooks import guard_training
from mstkit.errors import WorkStopped
from mstkit.interop import read_checkpoint
from tests.test_downstream_configs import CONFIGS, name

from . import running

# The first epoch, of one iteration, is ordinary. The second has a learning rate of 4e30, and the third sees it.
ABSURD = {
    'param_scheduler': [dict(type='MultiStepLR', by_epoch=True, milestones=[1], gamma=1e33)],
    'train_cfg.val_interval': 1,
    'default_hooks.checkpoint.max_keep_ckpts': 1,
    'default_hooks.checkpoint.save_best': 'accuracy/top1',
}


@pytest.mark.parametrize('build', [build_runner, Runner.from_cfg], ids=['ours', "mmengine's"])
def test_a_classification_that_diverges_stops(build, tmp_path):
    """Also under mmengine's own Runner, which the tools of the toolboxes use."""
    config = running.load(running.CLASSIFICATION, tmp_path, tmp_path, cfg_options=ABSURD, epochs=4)
    runner = build(config)
    with pytest.raises(WorkStopped, match=r'no longer finite.*The last good checkpoint is .*epoch_\d\.pth'):
        runner.train()
    kept = sorted(tmp_path.glob('*.pth'))
    assert [path.name.split('_')[0] for path in kept] == ['best', 'epoch']
    for path in kept:
        weights = read_checkpoint(path)['state_dict'].values()
        assert all(bool(torch.isfinite(value).all()) for value in weights), path


@pytest.mark.parametrize('path', CONFIGS, ids=name)
def test_every_downstream_config_is_guarded(path: Path):
    """By the config itself, for the tools of the toolboxes, and once only where our runner trains it."""
    config = Config.fromfile(path)
    assert config.default_hooks.non_finite == dict(type='mstkit.NonFiniteLossHook')
    assert config.default_hooks.checkpoint.type == 'mstkit.AtomicCheckpointHook'
    with DefaultScope.overwrite_default_scope(config.default_scope):
        named, others = guard_training(config.default_hooks, config.get('custom_hooks'))
    hooks = [*named.values(), *others]
    assert sum(isinstance(hook, NonFiniteLossHook) for hook in hooks) == 1
    assert isinstance(named['checkpoint'], AtomicCheckpointHook)
    assert all(isinstance(hook, Hook | dict) for hook in hooks)
