"""mmpretrain's own algorithms under our runner, with our hooks: measured, watched, saved, resumed to the bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from . import running
from .test_resume import MID_EPOCH, interrupt

SIZE, PATCH, DIMS = 16, 8, 24
VIT = dict(
    arch=dict(embed_dims=DIMS, num_layers=2, num_heads=2, feedforward_channels=48), img_size=SIZE, patch_size=PATCH
)
PIXELS = dict(type='mmpretrain.SelfSupDataPreprocessor', mean=[127.5] * 3, std=[64.0] * 3)
RESNET = dict(type='mmpretrain.ResNet', depth=18, base_channels=8, stem_channels=8)


def mlp(inputs: int, outputs: int = 16, **settings: Any) -> dict[str, Any]:
    sizes = dict(in_channels=inputs, hid_channels=24, out_channels=outputs)
    return dict(type='mmpretrain.NonLinearNeck', **sizes, with_avg_pool=False, norm_cfg=dict(type='BN1d')) | settings


VIEWS: list[dict] = [
    dict(type='MultiCrop', global_crops=dict(size=SIZE), local_crops=dict(count=0)),
    dict(type='PackViews'),
]
ONE: list[dict] = [dict(type='mmpretrain.RandomResizedCrop', scale=SIZE), dict(type='mmpretrain.PackInputs')]
MODELS: dict[str, tuple[dict[str, Any], list[dict]]] = {
    'MAE': (
        dict(
            backbone=dict(type='mmpretrain.MAEViT', mask_ratio=0.5, **VIT),
            neck=dict(
                type='mmpretrain.MAEPretrainDecoder',
                num_patches=(SIZE // PATCH) ** 2,
                patch_size=PATCH,
                embed_dim=DIMS,
                decoder_embed_dim=16,
                decoder_depth=1,
                decoder_num_heads=2,
            ),
            head=dict(
                type='mmpretrain.MAEPretrainHead',
                norm_pix=True,
                patch_size=PATCH,
                loss=dict(type='mmpretrain.PixelReconstructionLoss', criterion='L2'),
            ),
        ),
        ONE,
    ),
    'MoCoV3': (
        dict(
            backbone=dict(type='mmpretrain.MoCoV3ViT', out_type='cls_token', **VIT),
            neck=mlp(DIMS),
            head=dict(
                type='mmpretrain.MoCoV3Head',
                predictor=mlp(16),
                loss=dict(type='mmpretrain.CrossEntropyLoss', loss_weight=0.4),
            ),
        ),
        VIEWS,
    ),
    'SimCLR': (
        dict(
            backbone=RESNET,
            neck=mlp(64, with_avg_pool=True),
            head=dict(type='mmpretrain.ContrastiveHead', loss=dict(type='mmpretrain.CrossEntropyLoss')),
        ),
        VIEWS,
    ),
    'BYOL': (
        dict(
            backbone=RESNET,
            neck=mlp(64, with_avg_pool=True),
            head=dict(
                type='mmpretrain.LatentPredictHead',
                loss=dict(type='mmpretrain.CosineSimilarityLoss'),
                predictor=mlp(16, with_avg_pool=False),
            ),
        ),
        VIEWS,
    ),
    'SwAV': (
        dict(
            backbone=RESNET,
            neck=dict(type='mmpretrain.SwAVNeck', in_channels=64, hid_channels=24, out_channels=16, with_avg_pool=True),
            head=dict(
                type='mmpretrain.SwAVHead',
                loss=dict(type='mmpretrain.SwAVLoss', feat_dim=16, num_prototypes=8, num_crops=[2, 0]),
            ),
        ),
        VIEWS,
    ),
}
SCENES = dict(type='BuiltinScenes', split='train', num_images=16, image_size=32)
LABELED = dict(SCENES, pipeline=[dict(type='CenterView', resize=SIZE, crop=SIZE), dict(type='PackViews')])


def settings(name: str) -> dict[str, Any]:
    parts, pipeline = MODELS[name]
    knn = dict(type='KNNHook', train_dataset=LABELED, val_dataset=dict(LABELED, split='val'), ks=[3], headline_k=3)
    return dict(
        model=dict(type=f'mmpretrain.{name}', data_preprocessor=PIXELS, **parts),
        train_dataloader__dataset=dict(SCENES, pipeline=pipeline),
        default_hooks__checkpoint=dict(MID_EPOCH, interval=6),  # where a run is cut, and at its end
        default_hooks__knn=knn,
        default_hooks__panels=dict(type='PanelHook', interval=1),
        custom_hooks=[dict(type='ProgressHook'), dict(type='CollapseMonitorHook', num_images=8)],
        log_level='INFO',
        # SwAV's head holds its prototypes twice, which an optimizer would refuse.
        optim_wrapper__paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, bypass_duplicate=True),
    )


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize('name', MODELS)
def test_trained_and_resumed_inside_an_epoch(tmp_path, name):
    whole = running.train(tmp_path / 'whole', **settings(name))
    measured = lines(tmp_path / 'whole' / 'knn.jsonl')
    assert [record['epoch'] for record in measured] == [0, 1, 2, 3]
    assert all(set(record['branches']) == {'backbone'} for record in measured)
    watched = lines(tmp_path / 'whole' / 'collapse.jsonl')
    assert [record['epoch'] for record in watched] == [1, 2, 3]
    assert all(record['feature_deviation'] > 0 for record in watched)
    log = Path(whole.log_dir).joinpath(f'{whole.timestamp}.log').read_text()
    assert log.count(f'panels are off: {name} has nothing to show of a step') == 1
    interrupt(tmp_path / 'cut', 6, **settings(name))
    running.train(tmp_path / 'cut', resume=True, **settings(name))
    assert running.same_state(tmp_path / 'whole' / 'iter_12.pth', tmp_path / 'cut' / 'iter_12.pth')
    assert lines(tmp_path / 'cut' / 'knn.jsonl') == measured
    assert lines(tmp_path / 'cut' / 'collapse.jsonl') == watched
