"""Heatmaps, the head that predicts them, and the points that are read out of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement, InstanceData
from torch import nn

from mstkit.downstream.heatmap_head import HeatmapHead
from mstkit.downstream.heatmaps import draw_heatmaps, read_points, resized_points
from mstkit.downstream.keypoint_estimator import KeypointEstimator
from mstkit.downstream.keypoint_transforms import CropInstance, PackKeypoints
from mstkit.errors import UsageError
from mstkit.registry import MODELS

VIT = dict(
    type='MaskedVisionTransformer',
    arch=dict(embed_dims=48, num_layers=2, num_heads=3, feedforward_channels=48),
    img_size=32,
    patch_size=8,
    out_type='featmap',
)


def packed(keypoints: np.ndarray, size: tuple[int, int] = (32, 24), box: tuple = (5, 8, 20, 30), **crop: float) -> dict:
    """A crop of random pixels, as the pipeline gives it; keypoints 1 and 2 are left and right."""
    indices = [0, 2, 1, *range(3, len(keypoints))]
    image = np.random.default_rng(0).integers(0, 255, (50, 60, 3), dtype=np.uint8)
    known = dict(img_path='x.png', image_id=1, instance_id=1, box=box, area=600.0, flip_indices=indices)
    known |= dict(keypoints=keypoints, img=image, ori_shape=(50, 60), sample_idx=0)
    return PackKeypoints()(CropInstance(size, **crop)(known))


def points_in(box: tuple = (5, 8, 20, 30), count: int = 6) -> np.ndarray:
    places = np.random.default_rng(1).uniform(size=(count, 2)) * box[2:] + box[:2]
    return np.concatenate([places, np.full((count, 1), 2)], axis=1).astype(np.float32)


def test_a_gaussian_around_the_point_itself():
    heatmap = draw_heatmaps(torch.tensor([2.25, 4.0]), (6, 5), 1.5)
    for row, column in ((0, 0), (3, 2), (5, 4)):
        apart = (column + 0.5 - 2.25) ** 2 + (row + 0.5 - 4.0) ** 2
        assert heatmap[row, column].item() == pytest.approx(math.exp(-apart / (2 * 1.5**2)), rel=1e-5)
    assert draw_heatmaps(torch.zeros(2, 3, 2), (6, 5), 1.0).shape == (2, 3, 6, 5)


def test_points_are_read_where_they_were_drawn():
    points = torch.rand(500, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([20.0, 28.0]) + 2
    found, values = read_points(draw_heatmaps(points, (32, 24), 2.0))
    # A quarter of a pixel, toward the neighbor that is nearer: what is left is at most a quarter.
    assert (found - points).abs().max() <= 0.25 + 1e-4
    assert values.min() > 0.85 and values.max() <= 1
    at_corner, _ = read_points(draw_heatmaps(torch.tensor([[0.0, 0.0], [24.0, 32.0]]), (32, 24), 2.0))
    assert at_corner.tolist() == [[0.5, 0.5], [23.5, 31.5]]


def test_a_mirrored_heatmap_has_the_mirrored_point():
    points = torch.rand(50, 2, generator=torch.Generator().manual_seed(0)) * 20 + 2
    heatmaps = draw_heatmaps(points, (24, 24), 2.0)
    (plain, _), (mirrored, _) = read_points(heatmaps), read_points(heatmaps.flip(-1))
    assert torch.equal(mirrored[:, 0], 24 - plain[:, 0]) and torch.equal(mirrored[:, 1], plain[:, 1])
    moved = resized_points(torch.tensor([48.0, 64.0]), (256, 192), (64, 48))
    assert moved.tolist() == [12.0, 16.0]


@pytest.mark.parametrize(
    ('deconvolutions', 'upsampling', 'stride'), [(0, 1, 1), (1, 1, 2), (2, 1, 4), (0, 4, 4), (1, 2, 4)]
)
def test_the_size_of_heatmaps(deconvolutions, upsampling, stride):
    head = HeatmapHead(16, 5, deconvolutions, channels=8, upsampling=upsampling)
    head.init_weights()
    heatmaps = head((torch.zeros(2, 99, 1, 1), torch.randn(2, 16, 4, 3)))
    assert heatmaps.shape == (2, 5, 4 * stride, 3 * stride)
    kernels = [one for one in head.modules() if isinstance(one, nn.ConvTranspose2d | nn.Conv2d)]
    assert len(kernels) == deconvolutions + 1
    assert all(0.0008 < one.weight.std().item() < 0.0012 for one in kernels if one.weight.numel() > 500)


class Fixed(nn.Module):
    """A network that always gives the same heatmaps."""

    def __init__(self, heatmaps: torch.Tensor) -> None:
        super().__init__()
        self.heatmaps = nn.Parameter(heatmaps)

    def forward(self, features: object) -> torch.Tensor:
        return self.heatmaps


def truth(*rows: list[list[float]]) -> list[BaseDataElement]:
    samples = []
    for keypoints in rows:
        sample = BaseDataElement(metainfo=dict(img_shape=(16, 12)))
        sample.gt_instances = InstanceData(crop_keypoints=torch.tensor([keypoints]))
        samples.append(sample)
    return samples


def test_the_loss_is_the_mean_over_what_is_to_be_learned(monkeypatch):
    head = HeatmapHead(4, 2, 0, sigma=1.0)
    samples = truth([[4.0, 8.0, 1.0], [2.0, 2.0, 0.0]], [[6.0, 6.0, 1.0], [9.0, 3.0, 1.0]])
    heatmaps = torch.rand(2, 2, 4, 3)
    monkeypatch.setattr(HeatmapHead, 'forward', lambda self, features: heatmaps)
    errors = []
    for image, keypoint in ((0, 0), (1, 0), (1, 1)):
        point = samples[image].gt_instances.crop_keypoints[0, keypoint, :2] / 4  # stride 4
        errors.append(((heatmaps[image, keypoint] - draw_heatmaps(point, (4, 3), 1.0)) ** 2).mean())
    loss = head.loss((), samples)['loss_heatmap']
    assert loss.item() == pytest.approx(torch.stack(errors).mean().item(), rel=1e-5)


def test_a_batch_without_a_keypoint_has_a_loss_of_zero():
    head = HeatmapHead(4, 2, 1, channels=4)
    loss = head.loss((torch.randn(2, 4, 4, 3),), truth(*[[[4.0, 8.0, 0.0]] * 2] * 2))['loss_heatmap']
    loss.backward()
    assert loss.item() == 0 and all(p.grad is not None and (p.grad == 0).all() for p in head.parameters())


@pytest.mark.parametrize('crop', [{}, dict(scale=0.3, rotation=60.0, rotation_prob=1.0)])
def test_a_perfect_network_finds_the_points_in_the_image(crop):
    keypoints = points_in()
    one = packed(keypoints, (64, 48), **crop)
    sample = one['data_samples']
    model = KeypointEstimator(VIT, dict(type='HeatmapHead', in_channels=48, num_keypoints=6), flip_test=False)
    there = resized_points(sample.gt_instances.crop_keypoints[..., :2], (64, 48), (32, 24))
    model.backbone, model.head = nn.Identity(), Fixed(draw_heatmaps(there, (32, 24), 2.0))
    (found,) = model(one['inputs'][None].float(), [sample], mode='predict')
    scale = np.sqrt(np.linalg.det(sample.crop_matrix[:, :2]))  # px of the crop per px of the image
    apart = (found.pred_instances.keypoints[0] - torch.from_numpy(keypoints[:, :2])).norm(dim=-1)
    assert apart.max() <= 0.25 * math.sqrt(2) * 2 / scale + 1e-3
    assert (found.pred_instances.keypoint_scores > 0.9).all() and 0.9 < found.pred_instances.scores.item() <= 1
    assert torch.equal(found.gt_instances.keypoints[0], torch.from_numpy(keypoints[:, :2])), (
        'of the image, not the crop'
    )


def test_flip_test_gives_mirrored_points_for_a_mirrored_image():
    torch.manual_seed(0)
    head = dict(type='HeatmapHead', in_channels=48, num_keypoints=6, deconvolutions=1, channels=8)
    model = MODELS.build(dict(type='KeypointEstimator', backbone=VIT, head=head))
    model.init_weights()
    nn.init.normal_(model.head.final.weight)
    model.eval()
    one = packed(points_in())
    image = one['inputs'][None].float() / 255
    with torch.no_grad():
        found = {}
        for side, shown in (('plain', image), ('mirrored', image.flip(-1))):
            (result,) = model(shown, [one['data_samples'].clone()], mode='predict')
            points = result.pred_instances.keypoints[0].double().numpy()
            matrix = result.crop_matrix
            found[side] = points @ matrix[:, :2].T + matrix[:, 2]  # in the crop again
    expected = found['plain'][one['data_samples'].flip_indices] * [-1, 1] + [24, 0]
    assert np.abs(found['mirrored'] - expected).max() < 1e-3


def test_modes_and_what_they_need():
    model = MODELS.build(
        dict(type='KeypointEstimator', backbone=VIT, head=dict(type='HeatmapHead', in_channels=48, num_keypoints=6))
    )
    assert model(torch.zeros(1, 3, 32, 24)).shape == (1, 6, 16, 12)
    with pytest.raises(UsageError, match="mode='loss' needs data_samples"):
        model(torch.zeros(1, 3, 32, 24), mode='loss')
    assert model.get_layer_depth('backbone.layers.0.ln1.weight') == (1, 4)
    assert model.get_layer_depth('head.final.weight') == (3, 4)
