"""The backbone that was pre-trained is the one that is fine-tuned, or the run does not start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mstkit.interop import load_backbone
from mstkit.registry import MODELS

from ..models.builders import SWIN, VIT
from .pretrained import FEATMAP, FOUR, OWN_SWIN, expected_map, last_map, segmentor, toy_image

SWIN_CHANNELS = [24, 48, 96, 192]


@pytest.fixture(scope='module', autouse=True)
def _scope() -> Iterator[None]:
    with DefaultScope.overwrite_default_scope('mstkit'):
        yield


def classifier(backbone: dict[str, Any], channels: int) -> Any:
    """mmpretrain's, with its own class for the backbone."""
    backbone = {**backbone, 'type': f'mmpretrain.{backbone["type"].removeprefix("Masked")}'}
    head = dict(type='LinearClsHead', num_classes=3, in_channels=channels)
    return MODELS.build(dict(type='mmpretrain.ImageClassifier', backbone=backbone, head=head))


def detector(backbone: dict[str, Any], channels: list[int]) -> Any:
    """mmdet's Mask R-CNN from its own base file, with narrow heads."""
    import mmdet
    from mmdet.registry import MODELS as MMDET_MODELS

    config = Config.fromfile(str(Path(mmdet.__file__).parent / '.mim/configs/_base_/models/mask-rcnn_r50_fpn.py')).model
    config.backbone = backbone
    config.neck.update(in_channels=channels, out_channels=8)
    config.rpn_head.update(in_channels=8, feat_channels=8)
    heads = config.roi_head
    heads.bbox_roi_extractor.out_channels = heads.mask_roi_extractor.out_channels = 8
    heads.bbox_head.update(in_channels=8, fc_out_channels=8, num_classes=2)
    heads.mask_head.update(in_channels=8, conv_out_channels=8, num_classes=2)
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MMDET_MODELS.build(config)


@pytest.mark.parametrize('branch', ['student', 'teacher'])
def test_vit_gives_the_features_that_it_was_pre_trained_for(vit, branch):
    images = toy_image(32)
    wanted = expected_map(vit, images, branch)
    models = {
        'classifier': classifier({**VIT, **FEATMAP}, 48),
        'detector': detector(
            {**VIT, **FEATMAP, 'type': 'mmpretrain.VisionTransformer', 'out_indices': [0, 2]}, [48] * 2
        ),
        'segmentor': segmentor({**VIT, **FEATMAP, 'type': 'mstkit.MaskedVisionTransformer'}, 48),
    }
    for name, model in models.items():
        report = load_backbone(model.backbone, vit.checkpoint, branch, str(vit.path))
        assert (last_map(model.backbone, images) - wanted).abs().max() < 1e-5, name
        assert (len(report.loaded), report.share) == (len(model.backbone.state_dict()), 1.0)
        assert report[2:5] == ((), (), ())
    whole = models['classifier'].extract_feat(images)[-1]
    assert (whole - wanted).abs().max() < 1e-5


def test_class_token_of_the_classifier(vit):
    model = classifier(VIT, 48)
    load_backbone(model.backbone, vit.checkpoint)
    with torch.no_grad():
        wanted = vit.backbone().forward_tokens(toy_image(32)).pooled
    assert (last_map(model.backbone, toy_image(32)) - wanted).abs().max() < 1e-5


def test_swin_gives_the_features_that_it_was_pre_trained_for(swin):
    images = toy_image(224, 1)
    wanted = expected_map(swin, images)
    norms = tuple(f'norm{i}.{part}' for i in range(3) for part in ('weight', 'bias'))
    ours = {**SWIN, 'type': 'mstkit.MaskedSwinTransformer', **FOUR}
    for model, missing in (
        (classifier(SWIN, 192), ()),
        (detector(ours, SWIN_CHANNELS), norms),
        (segmentor(ours, 192), norms),
    ):
        report = load_backbone(model.backbone, swin.checkpoint, source='epoch_3.pth')
        assert (last_map(model.backbone, images) - wanted).abs().max() < 1e-5
        assert report.missing == missing and report.unexpected == report.resized == ()
        assert report.share == len(report.loaded) / len(model.backbone.state_dict())
        for name in missing:  # as initialized
            assert torch.equal(model.backbone.state_dict()[name].unique(), torch.tensor([float('weight' in name)]))


@pytest.mark.parametrize('build', [detector, segmentor])
def test_the_own_swin_of_mmdet_and_mmseg(small_window, build):
    """Equal where every map is larger than a window: on smaller ones theirs shifts, the pre-trained one does not."""
    images = toy_image(128)
    model = build(dict(type='SwinTransformer', window_size=2, **OWN_SWIN), SWIN_CHANNELS if build is detector else 192)
    assert type(model.backbone).__module__.startswith('mmdet' if build is detector else 'mmseg')
    report = load_backbone(model.backbone, small_window.checkpoint)
    assert (last_map(model.backbone, images) - expected_map(small_window, images)).abs().max() < 1e-5
    assert len(report.loaded) + 6 == len(model.backbone.state_dict())
