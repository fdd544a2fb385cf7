"""Masked autoencoders under the runner with all hooks: measured, drawn, resumed to the bit; and in two processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.dataset import default_collate
from PIL import Image
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from mstkit.datasets.whole_view import whole_images
from mstkit.engine.hooks import GuideCacheHook
from mstkit.registry import MODELS
from mstkit.structures import Progress

from . import running
from .test_resume import MID_EPOCH, interrupt

SIZE = 16
BACKBONE = dict(
    type='MaskedVisionTransformer',
    arch=dict(embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=48),
    img_size=SIZE,
    patch_size=4,
    drop_path_rate=0.2,
)
PIXELS = dict(type='ViewDataPreprocessor', mean=[127.5] * 3, std=[64.0] * 3)
METHODS: dict[str, dict[str, Any]] = {
    'MAE': dict(type='MAE', decoder=dict(type='ViTDecoder', embed_dims=16, num_layers=1, num_heads=2)),
    'MAE, guided': dict(
        type='MAE',
        decoder=dict(type='ViTDecoder', embed_dims=16, num_layers=1, num_heads=2),
        masker=dict(type='AttMaskHigh', ratio=(0.3, 0.7), image_prob=0.5),
    ),
    'MAE, own average': dict(
        type='MAE',
        decoder=dict(type='ViTDecoder', embed_dims=16, num_layers=1, num_heads=2),
        masker=dict(type='AttMaskHigh', ratio=(0.3, 0.7), image_prob=0.5),
        guide=dict(type='EMAGuide', momentum=0.9, end_momentum=1.0),
    ),
    'MAE, kept scores': dict(
        type='MAE',
        decoder=dict(type='ViTDecoder', embed_dims=16, num_layers=1, num_heads=2),
        masker=dict(type='AttMaskHigh', ratio=(0.3, 0.7), image_prob=0.5),
        guide=dict(type='CachedGuide', every=2, guide='ema'),
    ),
    'MAE, hard patches': dict(
        type='MAE',
        decoder=dict(type='ViTDecoder', embed_dims=16, num_layers=1, num_heads=2),
        masker=dict(type='TopShareMasker', ratio=(0.5, 0.75)),
        guide='predicted_loss',
        objectives=dict(
            rank=dict(type='LossPrediction', decoder=dict(embed_dims=16, num_layers=1, num_heads=2), lr_mult=2.0)
        ),
    ),
    'MAE, generated masks': dict(
        type='MAE',
        decoder=dict(type='ViTDecoder', embed_dims=16, num_layers=1, num_heads=2),
        masker=dict(type='PreferenceMasker', ratio=(0.5, 0.75)),
        guide=dict(type='generated', source=dict(type='ema', momentum=0.9)),
        objectives=dict(generate=dict(type='MaskGeneration', lr_mult=2.0)),
    ),
    'SimMIM': dict(type='SimMIM', mask_patch_size=8),
    'Data2Vec': dict(type='Data2Vec', masker=dict(type='BlockMasker', ratio=0.6, image_prob=1.0, min_block=2)),
    'Data2Vec2': dict(type='Data2Vec2', decoder=dict(groups=2, num_layers=2), masks_per_image=2),
    'LocalMIM': dict(
        type='LocalMIM',
        layers=(1, -1),
        scales=(2.0, 0.5),
        decoder=dict(type='ViTDecoder', embed_dims=16, num_layers=1, num_heads=2),
    ),
    'CMAE': dict(
        type='CMAE',
        decoder=dict(type='ViTDecoder', embed_dims=16, num_layers=1, num_heads=2),
        feature_decoder=dict(type='ViTDecoder', embed_dims=16, num_layers=1, num_heads=2),
        neck=dict(hid_channels=16, out_channels=8),
        predictor=dict(hid_channels=16, out_channels=8),
    ),
    'MSN': dict(
        type='MSN', neck=dict(out_dim=32, hidden_dim=24, bottleneck_dim=16), masker=dict(type='RandomMasker', ratio=0.5)
    ),
    'BootMAE': dict(
        type='BootMAE',
        decoder=dict(embed_dims=16, num_layers=1, num_heads=2),
        feature_decoder=dict(num_layers=1, num_heads=2),
        feature_warmup=1.0,
        masker=dict(type='BlockMasker', ratio=(0.3, 0.7), image_prob=1.0, min_block=2),
    ),
}
TAUGHT = ('MAE, guided', 'MAE, hard patches', 'Data2Vec', 'Data2Vec2', 'CMAE', 'MSN', 'BootMAE')
VIEW = [
    dict(type='MultiCrop', global_crops=dict(size=SIZE, count=1), local_crops=dict(count=0), global_recipes={}),
    dict(type='PackViews'),
]
TWO_VIEWS = [
    dict(
        type='MultiCrop',
        global_crops=dict(size=SIZE, count=2),
        local_crops=dict(count=0),
        global_recipes=dict(saturation=0.4),
        pixel_shift=3,
    ),
    dict(type='PackViews'),
]
VIEWS = {'CMAE': TWO_VIEWS, 'MSN': TWO_VIEWS}  # the student's, then the target view
SCENES = dict(type='BuiltinScenes', split='train', num_images=16, image_size=32)
LABELED = dict(SCENES, pipeline=[dict(type='CenterView', resize=SIZE, crop=SIZE), dict(type='PackViews')])


def settings(name: str, measured: bool = True) -> dict[str, Any]:
    knn = dict(type='KNNHook', train_dataset=LABELED, val_dataset=dict(LABELED, split='val'), ks=[3], headline_k=3)
    return dict(
        model=dict(METHODS[name], backbone=BACKBONE, data_preprocessor=PIXELS),
        train_dataloader__dataset=dict(SCENES, pipeline=VIEWS.get(name, VIEW)),
        optim_wrapper__freeze_last_layer_epochs=0,
        default_hooks__checkpoint=dict(MID_EPOCH, interval=6),  # where a run is cut, and at its end
        default_hooks__knn=knn if measured else None,
        default_hooks__panels=dict(type='PanelHook', interval=1, num_images=2) if measured else None,
        custom_hooks=[dict(type='ProgressHook'), *[dict(type='CollapseMonitorHook', num_images=8)] * measured],
        log_level='INFO',
    )


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize('name', METHODS)
def test_trained_measured_drawn_and_resumed_inside_an_epoch(tmp_path, name):
    whole = running.train(tmp_path / 'whole', **settings(name))
    measured, watched = (lines(tmp_path / 'whole' / f'{file}.jsonl') for file in ('knn', 'collapse'))
    branches = ['student', 'teacher'] if name in TAUGHT else ['student']
    assert [list(record['branches']) for record in measured] == [branches] * 4
    assert all(0 < record['hidden_fraction'] < 1 and record['feature_deviation'] > 0 for record in watched)
    log = Path(whole.log_dir).joinpath(f'{whole.timestamp}.log').read_text()
    assert 'k-NN is off' not in log and 'panels are off' not in log
    sheets = sorted((tmp_path / 'whole' / 'panels').iterdir())
    assert [sheet.name for sheet in sheets] == [f'epoch_00{epoch}.png' for epoch in range(4)]
    assert all(np.asarray(Image.open(sheet)).std() > 10 for sheet in sheets)
    interrupt(tmp_path / 'cut', 6, **settings(name))
    running.train(tmp_path / 'cut', resume=True, **settings(name))
    assert running.same_state(tmp_path / 'whole' / 'iter_12.pth', tmp_path / 'cut' / 'iter_12.pth')
    kept = [torch.load(tmp_path / run / 'iter_12.pth', weights_only=True).get('hooks') for run in ('whole', 'cut')]
    assert running.same(*kept) and ('GuideCacheHook' in (kept[0] or {})) == (name == 'MAE, kept scores')
    assert lines(tmp_path / 'cut' / 'knn.jsonl') == measured
    assert lines(tmp_path / 'cut' / 'collapse.jsonl') == watched


def test_a_frozen_network_guides_a_resumed_run_to_the_bit(tmp_path):
    running.train(tmp_path / 'source', **settings('MAE', measured=False))
    change = settings('MAE, guided', measured=False)
    change['model']['guide'] = dict(type='FrozenGuide', source=str(tmp_path / 'source' / 'iter_12.pth'))
    running.train(tmp_path / 'whole', **change)
    interrupt(tmp_path / 'cut', 6, **change)
    running.train(tmp_path / 'cut', resume=True, **change)
    assert running.same_state(tmp_path / 'whole' / 'iter_12.pth', tmp_path / 'cut' / 'iter_12.pth')
    state = torch.load(tmp_path / 'whole' / 'iter_12.pth', weights_only=True)['state_dict']
    assert [name for name in state if name.startswith('guide.')] == ['guide.fingerprint']
    another = running.train(tmp_path / 'another', **settings('MAE, guided', measured=False))
    mine, theirs = state['backbone.layers.0.attn.qkv.weight'], another.model.backbone.layers[0].attn.qkv.weight
    assert not torch.equal(mine, theirs), 'it does not guide'


def test_the_second_stage_of_dbot_predicts_the_first_and_resumes_to_the_bit(tmp_path):
    """Its checkpoint has the fingerprint of the first stage's student and none of its weights."""
    change = settings('MAE', measured=False)
    change['model']['type'] = 'DBOT'
    first = running.train(tmp_path / 'first', **change)
    change['model']['target'] = dict(type='FrozenFeatures', source=str(tmp_path / 'first' / 'iter_12.pth'))
    running.train(tmp_path / 'whole', **change)
    interrupt(tmp_path / 'cut', 6, **change)
    second = running.train(tmp_path / 'cut', resume=True, **change)
    assert running.same_state(tmp_path / 'whole' / 'iter_12.pth', tmp_path / 'cut' / 'iter_12.pth')
    state = torch.load(tmp_path / 'cut' / 'iter_12.pth', weights_only=True)['state_dict']
    assert [key for key in state if '.target.' in key] == ['objectives.predict.target.fingerprint']
    frozen, student = second.model.objectives.predict.target.network.backbone, first.model.backbone
    for mine, theirs in zip(frozen.state_dict().values(), student.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)
    assert not torch.equal(state['backbone.cls_token'], student.cls_token)


def test_kept_scores_are_refreshed_at_their_epochs_and_move_no_random_number(tmp_path, monkeypatch):
    states = []

    def counted(function):
        def refresh(runner, guide):
            torch.rand(3)  # the hook takes care of what a refresh draws
            states.append(runner.epoch)
            function(runner, guide)

        return staticmethod(refresh)

    monkeypatch.setattr(GuideCacheHook, '_refresh', counted(GuideCacheHook._refresh))
    runner = running.train(tmp_path / 'one', **settings('MAE, kept scores'))
    guide = runner.model.guide
    assert states == [0, 2] and guide.refreshed_in == 2
    assert guide.maps.shape == (16, 4, 4) and guide.maps.dtype == torch.float16 and guide.known.all()
    log = Path(runner.log_dir).joinpath(f'{runner.timestamp}.log').read_text()
    assert 'guide, epoch 2: scores of 16 images, 32 bytes each' in log
    # Of the whole images, in the order of the data set.
    whole = whole_images(runner.train_dataloader.dataset)
    batch = runner.model.data_preprocessor(default_collate([whole[index] for index in range(16)]))
    guide.copy_from(runner.model.backbone)
    again = guide.importance(runner.model, batch['inputs'])
    assert again.shape == guide.maps.shape and 0.5 < float((again * guide.maps).mean()) < 2


def gradients_on_rank(rank: int, name: str, distributed: bool) -> list[Tensor]:
    """Of two steps on this rank's images and masks, some of them empty, within DDP or by itself."""
    torch.manual_seed(0)
    blocks = dict(type='BlockMasker', ratio=(0.1, 0.9), image_prob=0.7)
    model = MODELS.build(dict(METHODS[name], backbone=dict(BACKBONE, drop_path_rate=0.0), masker=blocks))
    model.init_weights()
    wrapped = DistributedDataParallel(model, static_graph=model.static_graph) if distributed else model
    images = torch.randn(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(rank))
    for iteration in range(2):
        model.zero_grad()
        model.set_progress(Progress(iteration, 10, 5, rank_seed=rank, iteration=iteration))
        losses = wrapped([images], mode='loss')
        sum(losses.values()).backward()
    return [parameter.grad for parameter in model.parameters() if parameter.requires_grad]


@pytest.mark.parametrize('name', ['MAE', 'MAE, generated masks', 'SimMIM', 'BootMAE'])
def test_two_processes_average_what_each_finds(run_two, name):
    first, second = run_two(gradients_on_rank, name, True)
    alone = [gradients_on_rank(rank, name, False) for rank in range(2)]
    for one, other, mine, theirs in zip(first, second, *alone, strict=True):
        assert torch.equal(one, other)
        torch.testing.assert_close(one, (mine + theirs) / 2, rtol=1e-4, atol=1e-6)
