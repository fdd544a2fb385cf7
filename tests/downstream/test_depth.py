"""Images with depth for mmseg: pairs, units and sizes, what the transforms, the head, the loss and the metric do."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS, MODELS, DefaultScope
from PIL import Image
from torch.nn import functional

from mstkit.downstream import depth_folder, depth_metric
from mstkit.downstream.depth_folder import DepthFolder
from mstkit.downstream.depth_head import DeconvolutionDepthHead, ScaleInvariantLoss
from mstkit.downstream.depth_metric import KnownDepthMetric
from mstkit.downstream.depth_transforms import CropBottom, LoadDepth
from mstkit.engine.optim.layer_decay import BackboneLayerDecayConstructor
from mstkit.errors import UsageError
from mstkit.scenes.depth_files import ensure_depth_scenes

PIPELINE = [dict(type='LoadImageFromFile'), dict(type='mstkit.LoadDepth'), dict(type='PackSegInputs')]
FLIPPED = [*PIPELINE[:2], dict(type='RandomFlip', prob=1.0), PIPELINE[2]]


def build(root: Path, **changes: Any) -> DepthFolder:
    """As a config of mmseg's names it."""
    config = dict(type='mstkit.DepthFolder', data_root=str(root), pipeline=PIPELINE, serialize_data=False)
    with DefaultScope.overwrite_default_scope('mmseg'):
        return DATASETS.build(config | changes)


def write(root: Path, name: str, depth: np.ndarray, size: tuple[int, int] | None = None, split: str = 'train') -> None:
    """An image and its depth map; a float map goes into a .npy file."""
    height, width = depth.shape if size is None else size
    image = np.arange(height * width * 3, dtype=np.uint32).reshape(height, width, 3) % 251
    for kind in ('images', 'annotations'):
        (root / kind / split).mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.astype(np.uint8)).save(root / 'images' / split / f'{name}.png')
    target = root / 'annotations' / split / name
    if depth.dtype.kind == 'f':
        np.save(target.with_suffix('.npy'), depth)
    else:
        Image.fromarray(depth).save(target.with_suffix('.png'))


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    for module in (depth_folder, depth_metric):
        monkeypatch.setattr(module, 'print_log', lambda text, logger=None, level=20: lines.append(text))
    return lines


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    whole = np.full((6, 10), 2000, np.uint16)
    whole[0, 0], whole[0, 1] = 0, 30000
    write(tmp_path, 'a', whole)
    write(tmp_path, 'b', np.where(whole == 2000, np.float32(2.5), np.float32(np.nan)))
    return tmp_path


def test_samples_are_read_in_meters_and_what_is_far_or_unknown_is_zero(folder):
    dataset = build(folder)
    assert len(dataset) == 2 and dataset.metainfo['classes'] == ('depth',)
    for index, meters in ((0, 2.0), (1, 2.5)):
        sample = dataset[index]['data_samples']
        depth = sample.gt_depth_map.data
        assert depth.shape == (1, 6, 10) and depth.dtype == torch.float32
        assert depth[0, 0, :2].tolist() == [0, 0] and (depth.flatten()[2:] == meters).all()
    far = build(folder, farthest=40.0)[0]['data_samples'].gt_depth_map.data
    assert far[0, 0, :3].tolist() == [0, 30, 2]


def test_the_depth_is_flipped_with_the_image(folder):
    plain, flipped = (build(folder, pipeline=pipeline, farthest=40.0)[0] for pipeline in (PIPELINE, FLIPPED))
    assert torch.equal(flipped['inputs'], plain['inputs'].flip(-1))
    depths = [one['data_samples'].gt_depth_map.data for one in (plain, flipped)]
    assert torch.equal(depths[1], depths[0].flip(-1)) and not torch.equal(*depths)


def test_the_built_in_scenes(tmp_path):
    folder = ensure_depth_scenes(tmp_path / 'scenes', train=3, val=2, size=32)
    for split, count in (('train', 3), ('val', 2)):
        dataset = build(folder, split=split, test_mode=split == 'val')
        assert len(dataset) == count
        depth = dataset[0]['data_samples'].gt_depth_map.data
        assert depth.shape == (1, 32, 32) and 1.9 < float(depth.min()) <= float(depth.max()) <= 10


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(split='test'), r'there is no folder .*images/test'),
        (dict(farthest=1.0), r'2 of the 2 depth maps .* hold depths from 2 to 30 m, half of them below 2.5 m'),
        (dict(units=1.0, farthest=1.0), r'read as 1 in a meter.*give DepthFolder\.units'),
        (dict(farthest=1000.0), r'and the farthest depth is 1000 m: give DepthFolder\.units'),
        (dict(farthest=0), r'DepthFolder\.farthest'),
        (dict(units=-1), r'DepthFolder\.units'),
        (dict(data_prefix=dict(img_path='images/train')), 'give both folders as'),
        (dict(ann_file='none.txt'), r'the list .*none\.txt cannot be read'),
    ],
)
def test_a_mistake_is_one_message_at_the_start(folder, changes, message):
    with pytest.raises(UsageError, match=message) as error:
        build(folder, **changes)
    assert '\n' not in str(error.value)


def test_files_that_do_not_fit_are_named(folder, tmp_path):
    other = tmp_path / 'other'
    write(other, 'a', np.full((6, 8), 2000, np.uint16), size=(6, 10))
    with pytest.raises(UsageError, match=r'a\.png: it is read as 10x6 px, and annotated as 8x6 px'):
        build(other)
    arrays = tmp_path / 'arrays'  # whose sizes are in no header that is read at the start
    write(arrays, 'a', np.full((6, 8), 2.0, np.float32), size=(6, 10))
    with pytest.raises(UsageError, match=r'a\.npy is 8x6 px and its image 10x6'):
        build(arrays)[0]
    empty = tmp_path / 'empty'
    write(empty, 'a', np.zeros((6, 10), np.uint16))
    with pytest.raises(UsageError, match='no depth is known in 1 of the 1 depth maps'):
        build(empty)


def test_what_is_mostly_too_far_is_said(folder, said):
    write(folder, 'c', np.full((40, 40), 20000, np.uint16))
    build(folder)
    assert 'and the farthest depth is 10 m: 93% of the pixels are left out' in ''.join(said)


def test_a_list_and_folders_of_ones_own(folder, said):
    (folder / 'list.txt').write_text('a.png a.png 500\nb.png None\n')
    prefix = dict(img_path='images/train', depth_map_path='annotations/train')
    listed = build(folder, ann_file='list.txt', data_prefix=prefix)
    assert [Path(info['img_path']).name for info in map(listed.get_data_info, range(len(listed)))] == ['a.png']
    assert '1 images of' in ''.join(said)
    assert len(build(folder, data_prefix=prefix)) == 2


def test_the_crop_of_kitti():
    pixels = np.arange(375 * 1242, dtype=np.float32).reshape(375, 1242)
    found = CropBottom().transform(dict(img=pixels[..., None], gt_depth_map=pixels, seg_fields=['gt_depth_map']))
    assert found['img_shape'] == found['ori_shape'] == (352, 1216)
    assert np.array_equal(found['gt_depth_map'], pixels[23:, 13:1229]) and found['img'].shape == (352, 1216, 1)
    small = CropBottom(10, 10).transform(dict(img=pixels[:4, :4]))
    assert small['img_shape'] == (4, 4)


def test_the_transform_may_be_given_its_own_units(folder):
    info = dict(depth_map_path=str(folder / 'annotations' / 'train' / 'a.png'), ori_shape=(6, 10))
    assert LoadDepth(units=500, farthest=5).transform(dict(info))['gt_depth_map'].max() == 4
    assert LoadDepth().transform(dict(info))['gt_depth_map'].max() == 30


def head(**changes: Any) -> DeconvolutionDepthHead:
    config = dict(type='mstkit.DeconvolutionDepthHead', in_channels=8, channels=4, filters=4, farthest=20.0)
    with DefaultScope.overwrite_default_scope('mmseg'):
        built = MODELS.build(config | changes)
    built.init_weights()
    return built


@pytest.mark.parametrize('deconvolutions', [1, 2, 3])
def test_the_head_enlarges_by_4_and_2_for_each_deconvolution(deconvolutions):
    features = [torch.randn(2, 8, side, side + 1) for side in (6, 3)]
    with torch.no_grad():
        depth = head(deconvolutions=deconvolutions)(tuple(features))
    scale = 4 * 2**deconvolutions
    assert depth.shape == (2, 1, 3 * scale, 4 * scale) and depth.dtype == torch.float32
    assert float(depth.min()) >= 0.02 and float(depth.max()) <= 20
    assert float(depth.mean()) == pytest.approx(10, abs=1), 'at first half of the farthest depth'


def test_every_parameter_of_the_head_learns_and_none_from_unknown_pixels():
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    features = (torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(0)),)
    built = head(deconvolutions=1)
    known = torch.full((2, 1, 32, 32), 7.0)
    known[1] = 0  # an image without any depth, of which mmseg's loss makes NaN
    samples = [SegDataSample(gt_depth_map=PixelData(data=one)) for one in known]
    (loss,) = built.loss_by_feat(built(features), samples).values()
    loss.backward()
    grads = {name: weight.grad for name, weight in built.named_parameters()}
    assert all(grad is not None and torch.isfinite(grad).all() for grad in grads.values())
    assert any(grad.abs().sum() > 0 for grad in grads.values())
    nothing = [SegDataSample(gt_depth_map=PixelData(data=torch.zeros(1, 32, 32))) for _ in range(2)]
    built.zero_grad()
    (empty,) = built.loss_by_feat(built(features), nothing).values()
    empty.backward()
    assert all(torch.equal(weight.grad, torch.zeros_like(weight)) for weight in built.parameters())


def test_the_loss_is_eigens():
    depth, known = (1 + 9 * torch.rand(2, 1, 5, 5, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    known[0, 0, 0] = 0
    logs = [math.log(a) - math.log(b) for a, b in zip(depth.flatten(), known.flatten(), strict=True) if b > 0]
    mean, square = sum(logs) / len(logs), sum(one * one for one in logs) / len(logs)
    wanted = 3 * math.sqrt(square - 0.85 * mean * mean)
    assert float(ScaleInvariantLoss(loss_weight=3)(depth, known)) == pytest.approx(wanted, rel=1e-4)


def measured(metric: KnownDepthMetric, pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, float]:
    for depth, known in pairs:
        metric.process({}, [dict(pred_depth_map=dict(data=depth), gt_depth_map=dict(data=known.clone()))])
    return metric.compute_metrics(metric.results)


def test_images_without_depth_are_left_out_and_counted(said):
    known = torch.full((1, 4, 6), 2.0)
    known[0, 0] = 10.0  # the farthest itself counts
    depth = torch.full((1, 4, 6), 3.0)
    full = measured(KnownDepthMetric(), [(depth, known)])
    assert full['rmse'] == pytest.approx(math.sqrt((6 * 49 + 18) / 24)) and full['d2'] == pytest.approx(0.75)
    assert measured(KnownDepthMetric(), [(depth, known), (depth, torch.zeros_like(known))]) == full
    assert '1 of 2 images have no known depth' in ''.join(said)
    with pytest.raises(UsageError, match='none of 1 images has a known depth'):
        measured(KnownDepthMetric(), [(depth, torch.zeros_like(known))])


@pytest.mark.parametrize(('crop', 'part'), [('garg', (153, 371, 44, 1197)), ('eigen', (124, 342, 44, 1197))])
def test_the_crops_of_kitti(crop, part):
    """Rows and columns are those that the published code names for images of 375x1242."""
    upper, lower, left, right = part
    depth = torch.full((1, 375, 1242), 5.0)
    known = torch.full_like(depth, 50.0)
    known[0, upper:lower, left:right] = 5.0
    assert measured(KnownDepthMetric(farthest=80.0, crop=crop), [(depth, known)])['rmse'] == 0
    assert measured(KnownDepthMetric(farthest=80.0), [(depth, known)])['rmse'] > 20
    for row, column in ((upper, left), (lower - 1, right - 1)):  # the corners of the part belong to it
        other = known.clone()
        other[0, row, column] = 50.0
        assert measured(KnownDepthMetric(farthest=80.0, crop=crop), [(depth, other)])['rmse'] > 0


def test_a_crop_that_is_none():
    with pytest.raises(UsageError, match=r"KnownDepthMetric\.crop is 'grag'"):
        KnownDepthMetric(crop='grag')


def test_rates_fall_from_layer_to_layer_in_a_model_of_mmseg():
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(
            dict(
                type='DepthEstimator',
                backbone=dict(
                    type='mstkit.MaskedVisionTransformer',
                    arch=dict(embed_dims=8, num_layers=2, num_heads=2, feedforward_channels=16),
                    img_size=32,
                    patch_size=8,
                    out_type='featmap',
                ),
                decode_head=dict(type='mstkit.DeconvolutionDepthHead', in_channels=8, channels=4),
            )
        )
    settings = dict(optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.05))
    built = BackboneLayerDecayConstructor(settings, dict(layer_decay_rate=0.5))(model)
    rates = {group['param_name']: group['lr'] for group in built.optimizer.param_groups}
    assert rates['backbone.patch_embed.projection.weight'] == 1 / 8
    assert rates['backbone.layers.0.attn.qkv.weight'] == 1 / 4 and rates['backbone.layers.1.attn.qkv.weight'] == 1 / 2
    assert {rate for name, rate in rates.items() if name.startswith('decode_head')} == {1.0}
    with pytest.raises(
        UsageError, match=r'needs a backbone that knows its layers, and that of Sequential is not there'
    ):
        BackboneLayerDecayConstructor(settings, dict(layer_decay_rate=0.5))(torch.nn.Sequential(torch.nn.Linear(2, 2)))


def test_depth_is_drawn_in_colors_of_the_truths_range():
    from mmengine.structures import BaseDataElement, PixelData

    from mstkit.visualization.data_samples import SIDE, Painter, colored_depth

    known = torch.tensor([[[0.0, 1.0], [2.0, 4.0]]])
    sample = BaseDataElement(gt_depth_map=PixelData(data=known), pred_depth_map=PixelData(data=known * 0 + 2))
    image = np.full((2, 2, 3), 9, np.uint8)
    truth, predicted = Painter({}).truth(image, sample), Painter({}).prediction(image, sample)
    assert truth.shape == predicted.shape == (SIDE, SIDE, 3)
    assert not truth[: SIDE // 2, : SIDE // 2].any(), 'unknown is black'
    assert (truth[SIDE // 2 :, : SIDE // 2] == predicted[0, 0]).all(), 'the same depth, the same color'
    near, far = (int(colored_depth(np.array([[depth]], np.float32), 4.0).sum()) for depth in (1.0, 4.0))
    assert near > far
    enlarged = functional.interpolate(known[None], SIDE, mode='nearest')[0, 0].numpy()
    assert np.array_equal(truth, colored_depth(enlarged, 4.0))
