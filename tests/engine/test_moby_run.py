"""MoBY under the runner: resumed inside an epoch, refused before anything is written, watched for collapse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from mstkit.engine.launch.launch import build_runner, load_config
from mstkit.errors import UsageError
from tests.models.test_moby import mlp, moby
from tests.programs import run_on_rank

from . import running
from .hooks.fakes import log_text, make_runner
from .test_resume import MID_EPOCH, ROOT, interrupt

CONFIG = ROOT / 'configs' / 'moby' / 'moby_vit-tiny_folder.py'
MODEL = dict(
    type='MoBY',
    backbone=dict(
        type='MaskedVisionTransformer',
        arch=dict(embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=48),
        img_size=16,
        patch_size=8,
        drop_path_rate=0.2,
    ),
    neck=mlp(),
    predictor=mlp(),
    head=dict(type='MoBYHead', queue_size=12),
    masker=dict(type='RandomMasker', ratio=0.5),
    data_preprocessor=dict(type='SelfSupDataPreprocessor', mean=[127.5] * 3, std=[64.0] * 3),
)
SCENES = dict(
    type='BuiltinScenes',
    split='train',
    num_images=16,
    image_size=32,
    pipeline=[
        dict(type='MultiCrop', global_crops=dict(size=16), local_crops=dict(count=0)),
        dict(type='PackViews'),
    ],
)
RUN = dict(
    model=MODEL,
    train_dataloader__dataset=SCENES,
    optim_wrapper__freeze_last_layer_epochs=0,
    default_hooks__checkpoint=MID_EPOCH,
)


@pytest.mark.parametrize(('accumulate', 'stop'), [(1, 1), (1, 6), (2, 6)])
def test_resumed_inside_an_epoch(tmp_path, accumulate, stop):
    settings = dict(RUN, optim_wrapper__accumulative_counts=accumulate)
    running.train(tmp_path / 'whole', **settings)
    interrupt(tmp_path / 'cut', stop, **settings)
    running.train(tmp_path / 'cut', resume=True, **settings)
    assert running.same_state(tmp_path / 'whole' / 'iter_12.pth', tmp_path / 'cut' / 'iter_12.pth')
    state = torch.load(tmp_path / 'cut' / 'iter_12.pth', weights_only=True)['state_dict']
    assert (state['objectives.contrast.head.pointer'].item(), state['teacher.pending_steps'].item()) == (0, 1)


def test_a_queue_that_the_batch_does_not_divide_leaves_nothing_behind(tmp_path):
    images = tmp_path / 'images'
    images.mkdir()
    for number in range(10):
        Image.new('RGB', (80, 80), (20 * number, 0, 0)).save(images / f'{number}.png')
    options = {'train_dataloader.batch_size': 10}
    config, _ = load_config(CONFIG, options, data_root=str(images), work_dir=str(tmp_path / 'work'))
    with pytest.raises(UsageError, match=r'queue_size 256 .* 10 images .*head\.queue_size=250 or 260'):
        build_runner(config)
    assert not (tmp_path / 'work').exists()


def test_the_batch_of_two_processes_counts(tmp_path, run_two):
    """The 4 images of each divide the queue of 12 keys, the 8 of both do not: exit code 2 and one line."""
    settings = dict(running.toy.settings(**RUN), custom_imports=dict(imports=['tests.engine.toy']))
    path = tmp_path / 'moby.py'
    path.write_text(''.join(f'{name} = {value!r}\n' for name, value in settings.items()))
    ranks = run_two(run_on_rank, 'tools/train.py', path, '--work-dir', tmp_path / 'work')
    for result, start in zip(ranks, ('error: ', 'error on rank 1: '), strict=True):
        assert result.returncode == 2, result.stderr
        errors = [line for line in result.stderr.splitlines() if line.startswith('error')]
        assert len(errors) == 1 and errors[0].startswith(start), result.stderr
        assert '8 images of one iteration' in errors[0]
    assert not (tmp_path / 'work').exists()


def test_collapse_is_told_in_words_that_fit(tmp_path: Path):
    """Dead features are; a loss near ln(out_dim) and prototypes, which MoBY does not have, are not."""
    arch = dict(embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=48)
    model = moby(
        backbone=dict(type='MaskedVisionTransformer', arch=arch, img_size=8, patch_size=4),
        teacher=dict(momentum=1.0),
        head=dict(type='MoBYHead', queue_size=12),
    )
    torch.nn.init.zeros_(dict(model.named_modules())['backbone.ln1'].weight)
    monitor = dict(type='CollapseMonitorHook', grace_epochs=0, loss_key='loss_contrast')
    runner = make_runner(tmp_path, [dict(type='ProgressHook'), monitor], epochs=1, model=model)
    runner.train()
    (record,) = (json.loads(line) for line in (tmp_path / 'collapse.jsonl').read_text().splitlines())
    assert len(record['findings']) == 1
    assert 'the features are dead' in record['findings'][0]
    assert record['contrast_top1'] == 0.0
    assert 'contrast top1' in log_text(runner)
