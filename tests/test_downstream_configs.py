"""Every downstream config is built at a small size, takes a pre-trained backbone, and is stepped and asked once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData, PixelData
from mmpretrain.structures import DataSample

from mstkit.downstream.keypoint_transforms import CropInstance, PackKeypoints
from mstkit.interop import load_backbone

ROOT = Path(__file__).resolve().parent.parent / 'configs' / 'downstream'
CONFIGS = sorted(p for p in ROOT.rglob('*.py') if '_base_' not in p.parts)
COUNT = 38
SIZE = {'mmdet': 128, 'mmseg': 96, 'mstkit': 48}
CROP = (96, 64)  # height and width of the instances whose keypoints are looked for


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def task_of(config: Config) -> str:
    """The toolbox, as the scope of its config names it; keypoints need none."""
    return 'keypoints' if config.model.type == 'KeypointEstimator' else config.default_scope


def test_the_count_of_configs():
    assert len(CONFIGS) == COUNT


@pytest.mark.parametrize('path', CONFIGS, ids=name)
def test_first_lines_say_what_it_is(path):
    docstring = ' '.join(path.read_text(encoding='utf-8').split('"""')[1].split())
    assert f'configs/downstream/{name(path)}' in docstring, 'its command'
    assert '--pretrained FILE' in docstring
    assert 'ot reproduced here' in docstring or re.search(r'docs/en/results(_\w+)?\.md', docstring)
    config = Config.fromfile(path, import_custom_modules=False)
    assert config.default_hooks.pretrained == dict(
        type='mstkit.PretrainedBackboneHook', checkpoint=None, branch='student'
    )
    rooms = dict(mmdet='.detection', mmseg='.segmentation', keypoints='.keypoints')
    room = rooms.get(task_of(config), '')
    assert config.custom_imports == dict(imports=[f'mstkit.downstream{room}'], allow_failed_imports=False)


def reduced(config: Config) -> Any:
    """The same parts with few channels; returns the model's config."""
    model, small = config.model, 32
    swin = model.backbone.type.endswith('MaskedSwinTransformer')
    widths = [24, 48, 96, 192] if swin else [48] * 4
    if swin:
        model.backbone.arch = dict(embed_dims=24, depths=[1, 1, 1, 2], num_heads=[1, 2, 3, 6])
    else:
        layers = 12 if isinstance(model.backbone.arch, str) else model.backbone.arch['num_layers']
        model.backbone.arch = dict(embed_dims=48, num_layers=layers, num_heads=3, feedforward_channels=96)
    if task_of(config) == 'keypoints':
        model.backbone.img_size = CROP
        model.head.update(in_channels=widths[-1], channels=small)
    elif config.default_scope == 'mstkit':
        model.head.in_channels = widths[-1]
        if (model.get('neck') or {}).get('type') == 'mmpretrain.ClsBatchNormNeck':
            model.neck.input_features = widths[-1]
    elif config.default_scope == 'mmdet':
        model.neck.update(in_channels=widths if swin else widths[-1], out_channels=small)
        model.rpn_head.update(in_channels=small, feat_channels=small)
        for key in ('bbox_roi_extractor', 'mask_roi_extractor'):
            model.roi_head[key].out_channels = small
        model.roi_head.bbox_head.update(in_channels=small, fc_out_channels=64)
        model.roi_head.mask_head.update(in_channels=small, conv_out_channels=small)
    else:
        model.backbone.img_size = SIZE['mmseg']
        model.data_preprocessor.size = (SIZE['mmseg'],) * 2
        model.test_cfg.update(crop_size=(SIZE['mmseg'],) * 2, stride=(64, 64))
        if model.type == 'DepthEstimator':
            model.decode_head.update(in_channels=widths[-1], channels=small)
        elif model.get('neck'):
            model.neck.update(in_channels=widths, out_channels=small)
            model.decode_head.update(in_channels=(small,) * 4, channels=64, mla_channels=16)
            for head in model.auxiliary_head:
                head.update(in_channels=small, channels=small)
        else:
            for head in (model.decode_head, *model.auxiliary_head):
                head.update(in_channels=widths[-1], channels=small)
    return model


def pretrained(backbone: dict) -> dict:
    """A checkpoint of DINO after one step, with the same backbone at the size of a pre-training."""
    keep = ('arch', 'patch_size', 'layer_scale_init_value', 'relative_positions', 'positions', 'qkv_bias')
    size = 224 if backbone['type'].endswith('MaskedSwinTransformer') or backbone.get('patch_size', 16) == 16 else 48
    own = {key: backbone[key] for key in keep if key in backbone}
    if own.get('relative_positions'):
        own['relative_positions'] = 'shared'  # of which each layer gets a copy
    algorithm = dict(
        type='DINO',
        backbone=dict(type=backbone['type'], img_size=size, **own),
        neck=dict(type='DINONeck', out_dim=16, hidden_dim=16, bottleneck_dim=8),
        head=dict(type='DINOHead'),
        teacher=dict(type='MomentumTeacher'),
    )
    with DefaultScope.overwrite_default_scope('mstkit'):
        model = MODELS.build(algorithm)
    model.init_weights()
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sum(model.loss([torch.randn(2, 3, 64, 64), torch.randn(2, 3, 64, 64)]).values()).backward()
    optimizer.step()
    return dict(state_dict=model.state_dict(), meta=dict(epoch=1))


def checkpoint_tensors(checkpoint: dict) -> list[str]:
    return [key for key in checkpoint['state_dict'] if key.startswith('backbone.')]


def batch(scope: str, num_classes: int) -> dict[str, Any]:
    """Two images with something on them, as the toolbox's pipeline would pack them; 0 classes are depth."""
    if scope == 'keypoints':
        return instances(num_classes)
    side = SIZE[scope]
    images = [torch.randint(0, 256, (3, side, side), dtype=torch.uint8) for _ in range(2)]
    meta: dict[str, Any] = dict(
        img_shape=(side, side), ori_shape=(side, side), pad_shape=(side, side), scale_factor=(1.0, 1.0)
    )
    meta |= dict(batch_input_shape=(side, side), img_id=0)
    if scope == 'mstkit':
        samples = [DataSample(metainfo=meta).set_gt_label(label) for label in (0, num_classes - 1)]
        return dict(inputs=torch.stack(images), data_samples=samples)
    if scope == 'mmseg':
        from mmseg.structures import SegDataSample

        samples = []
        for _ in images:
            if not num_classes:
                depth = torch.rand(1, side, side) * 9
                depth[0, :4] = 0
                samples.append(SegDataSample(metainfo=meta, gt_depth_map=PixelData(data=depth)))
                continue
            labels = torch.randint(0, num_classes, (1, side, side))
            labels[0, :4] = 255
            samples.append(SegDataSample(metainfo=meta, gt_sem_seg=PixelData(data=labels)))
        return dict(inputs=images, data_samples=samples)
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    samples = []
    for _ in images:
        boxes = torch.tensor([[10.0, 12.0, 70.0, 66.0], [40.0, 50.0, 120.0, 118.0]])
        masks = np.zeros((2, side, side), np.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
            mask[y1:y2, x1:x2] = 1
        truth = InstanceData(bboxes=boxes, labels=torch.tensor([0, num_classes - 1]))
        truth.masks = BitmapMasks(masks, side, side)
        samples.append(
            DetDataSample(metainfo=meta, gt_instances=truth, ignored_instances=InstanceData(bboxes=boxes[:0]))
        )
    return dict(inputs=images, data_samples=samples)


def instances(keypoints: int) -> dict[str, Any]:
    """Two instances as CropInstance and PackKeypoints give them; of the second, half of the keypoints are labeled."""
    generator = np.random.default_rng(0)
    packed = []
    for labeled in (keypoints, keypoints // 2):
        points = np.full((keypoints, 3), 2, np.float32)
        points[:, :2] = generator.uniform(20, 60, (keypoints, 2))
        points[labeled:] = 0
        known = dict(img_path='x.png', image_id=1, instance_id=1, box=(16, 10, 52, 60), area=900, keypoints=points)
        known['flip_indices'] = list(range(keypoints))
        image = generator.integers(0, 256, (80, 100, 3), dtype=np.uint8)
        cropped = CropInstance(CROP)(dict(known, img=image, ori_shape=(80, 100)))
        packed.append(PackKeypoints()(cropped))
    return {key: [one[key] for one in packed] for key in ('inputs', 'data_samples')}


@pytest.mark.parametrize('path', CONFIGS, ids=name)
def test_model_takes_a_backbone_is_stepped_and_predicts(path):
    torch.manual_seed(0)
    config = Config.fromfile(path)
    scope = task_of(config)
    # The inferencers of the toolboxes know no scope but their own; mmseg's want this name.
    assert config.test_pipeline == config.test_dataloader.dataset.pipeline
    with DefaultScope.overwrite_default_scope(dict(mstkit='mmpretrain', keypoints='mstkit').get(scope, scope)):
        model = MODELS.build(reduced(config))
        model.init_weights()
        checkpoint = pretrained(dict(config.model.backbone))
        report = load_backbone(model.backbone, checkpoint, 'student', 'a test')
        of_mean = ('ln2.weight', 'ln2.bias') if config.model.backbone.get('out_type') == 'avg_featmap' else ()
        assert all('norm' in key or key in of_mean for key in report.missing)
        tables = [key for key in report.loaded if key.endswith('.relative_position_bias_table')]
        copies = len(tables) - 1 if config.model.backbone.get('relative_positions') else 0
        assert len(report.loaded) - copies == len(checkpoint_tensors(checkpoint)) - len(report.unexpected)
        classes = {
            'mmdet': lambda: config.model.roi_head.bbox_head.num_classes,
            'mmseg': lambda: config.model.decode_head.get('num_classes', 0),
            'mstkit': lambda: config.model.head.num_classes,
            'keypoints': lambda: config.model.head.num_keypoints,
        }[scope]()
        model.train()
        data = model.data_preprocessor(batch(scope, classes), training=True)
        losses = model(**data, mode='loss')
        total, _ = model.parse_losses(losses)
        assert torch.isfinite(total)
        total.backward()
        unused = [key for key, p in model.named_parameters() if p.requires_grad and p.grad is None]
        assert unused == []
        model.eval()
        with torch.no_grad():
            results = model.test_step(batch(scope, classes))
    check(scope, results, classes)


def check(scope: str, results: list, classes: int) -> None:
    """Predictions have the form that metrics and visualizers read."""
    side = SIZE.get(scope, 0)
    assert len(results) == 2
    for result in results:
        if scope == 'keypoints':
            found = result.pred_instances
            assert found.keypoints.shape == (1, classes, 2) and found.keypoint_scores.shape == (1, classes)
            # The crop is wider than the box in one direction and a quarter larger in both.
            assert found.keypoints.min() > -30 and found.keypoints.max() < 130
        elif scope == 'mstkit':
            assert result.pred_score.shape == (classes,)
            assert result.pred_score.sum().item() == pytest.approx(1.0, abs=1e-4)
        elif scope == 'mmseg' and not classes:
            assert result.pred_depth_map.data.shape == (1, side, side)
            assert 0 < result.pred_depth_map.data.min() <= result.pred_depth_map.data.max() <= 80
        elif scope == 'mmseg':
            assert result.pred_sem_seg.data.shape == (1, side, side)
            assert result.pred_sem_seg.data.min() >= 0 and result.pred_sem_seg.data.max() < classes
        else:
            found = result.pred_instances
            assert found.bboxes.shape == (len(found), 4) and found.masks.shape == (len(found), side, side)
            assert found.bboxes.min() >= 0 and found.bboxes.max() <= side if len(found) else True
            assert ((found.labels >= 0) & (found.labels < classes)).all()
