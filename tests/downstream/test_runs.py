"""Detection, segmentation and classification from a pre-trained backbone: trained, validated, measured, resumed."""

from __future__ import annotations

import json
import math

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mstkit.engine.checkpoints.checkpointing import save
from mstkit.engine.launch.launch import build_runner, load_config
from mstkit.engine.launch.measure import measure_checkpoint
from mstkit.errors import UsageError
from mstkit.interop import read_checkpoint

from .. import test_downstream_configs as small_configs
from ..engine.running import same
from . import running
from .running import ROOT, TASKS, WITHOUT_WORKERS, losses_of


class Watch(Hook):
    """Keeps the weights as they are when the first iteration starts."""

    priority = 'LOWEST'

    def before_train(self, runner: Runner) -> None:
        self.state = {name: value.clone() for name, value in runner.model.state_dict().items()}


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def test_the_loss_falls(trained):
    losses = trained.losses
    assert len(losses) == read_checkpoint(trained.last)['meta']['iter'] >= 12
    assert all(map(math.isfinite, losses))
    assert mean(losses[-3:]) < 0.85 * mean(losses[:3]), losses


def test_what_it_started_from_is_said_and_noted(trained, pretrained):
    said = running.log_of(trained.work_dir)
    number, resized = (40, 1) if trained.task is TASKS['segmentation'] else (42, 0)
    assert f'backbone from {pretrained} (student): loaded {number} of {number} tensors (100.0 %)' in said
    assert f'resized {resized}, missing 0' in said
    assert ('not used, the backbone has no such part: ln1.weight, ln1.bias' in said) == (resized == 1)
    noted = read_checkpoint(trained.last)['message_hub']['runtime_info']['pretrained']
    assert noted == dict(file=str(pretrained), branch='student', epoch=1)


def test_the_checkpoint_measures_as_the_run_validated(trained, scenes, tmp_path):
    assert any(value > 0 for value in trained.validated.values()), trained.validated
    measured = measure_checkpoint(running.load(trained.task, tmp_path, scenes), trained.last)
    assert measured == trained.validated
    assert json.loads(json.dumps(measured)) == measured  # tools/test.py prints it so


def test_a_resumed_run_goes_on(trained, scenes, pretrained, tmp_path):
    resume = dict(pretrained=str(pretrained), resume=str(trained.middle), cfg_options={'train_cfg.val_interval': 99})
    runner = build_runner(running.load(trained.task, tmp_path, scenes, **resume))
    watch = Watch()
    runner.register_hook(watch)
    runner.train()
    before, after = read_checkpoint(trained.middle), read_checkpoint(tmp_path / trained.task.last)
    assert same(watch.state, before['state_dict'])
    assert f'{pretrained} is not loaded: the run has loaded a checkpoint of its own' in running.log_of(tmp_path)
    assert after['message_hub']['runtime_info']['pretrained']['file'] == str(pretrained)
    losses, done = losses_of(runner), before['meta']['iter']
    assert len(losses) == len(trained.losses) and losses[:done] == trained.losses[:done]
    assert mean(losses[done:]) < 0.85 * mean(losses[:3]), losses
    if trained.task is TASKS['classification']:  # the others flip their images by chance
        assert same(after['state_dict'], read_checkpoint(trained.last)['state_dict'])


def test_resuming_without_one_of_the_tensors_is_refused(trained, scenes, pretrained, tmp_path):
    content = read_checkpoint(trained.middle)
    del content['state_dict']['backbone.layers.1.ln2.weight']
    save(content, tmp_path / 'lacking.pth')
    config = running.load(
        trained.task, tmp_path / 'run', scenes, pretrained=str(pretrained), resume=str(tmp_path / 'lacking.pth')
    )
    with pytest.raises(UsageError, match=r'lacking\.pth .*: 1 missing \(backbone\.layers\.1\.ln2\.weight\)') as caught:
        build_runner(config)
    assert '\n' not in str(caught.value) and not (tmp_path / 'run').exists()


def test_the_branches_are_two_backbones(pretrained, scenes, tmp_path):
    weights = read_checkpoint(pretrained)['state_dict']
    starts = {}
    for branch, prefix in (('student', 'backbone.'), ('teacher', 'teacher.backbone.')):
        config = running.load(
            TASKS['classification'], tmp_path / branch, scenes, pretrained=str(pretrained), branch=branch, epochs=1
        )
        runner = build_runner(config)
        watch = Watch()
        runner.register_hook(watch)
        runner.train()
        starts[branch] = {name: value for name, value in watch.state.items() if name.startswith('backbone.')}
        assert len(starts[branch]) > 30
        for name, value in starts[branch].items():
            assert torch.equal(value, weights[prefix + name.removeprefix('backbone.')]), name
        assert f'({branch}): loaded' in running.log_of(tmp_path / branch)
    assert not same(starts['student'], starts['teacher'])


def test_what_is_not_pretrained_is_said(scenes, tmp_path):
    """Swin with a pyramid has three norms that pre-training does not have; COCO's layout, the paper's config."""
    path = ROOT / 'configs' / 'downstream' / 'mmdet' / 'mask-rcnn_swin-t_fpn_1x_coco.py'
    backbone = small_configs.reduced(Config.fromfile(path)).backbone
    save(small_configs.pretrained(dict(backbone)), tmp_path / 'swin.pth')
    options = {
        **WITHOUT_WORKERS,
        'train_dataloader.dataset.indices': 2,
        'train_dataloader.dataset.pipeline.2.scale': (64, 64),
        'experiment_name': 'swin',
    }
    config, _ = load_config(
        path, options, str(scenes), str(tmp_path / 'run'), epochs=1, pretrained=str(tmp_path / 'swin.pth')
    )
    small_configs.reduced(config)
    config.train_cfg.val_interval = 2
    running.train(config)
    norms = ', '.join(f'norm{stage}.{kind}' for stage in range(3) for kind in ('weight', 'bias'))
    said = running.log_of(tmp_path / 'run')
    assert f'not pre-trained, stay as initialized: {norms}' in said and 'missing 6, unexpected 0' in said
    assert (tmp_path / 'run' / 'epoch_1.pth').exists()
