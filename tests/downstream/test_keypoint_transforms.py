"""Crops of instances: where pixels and keypoints go, and what is drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mstkit.datasets.sampling import SampleKey
from mstkit.downstream.keypoint_transforms import CropInstance, PackKeypoints
from mstkit.errors import UsageError

POINTS = np.array([[40, 20, 2], [30, 45, 2], [52, 44, 1]], np.float32)  # the second and third are left and right
BOX = (24.0, 14.0, 36.0, 40.0)
AUGMENTED = dict(scale=0.3, rotation=40.0, rotation_prob=0.8, flip_prob=0.5)


def scene() -> dict[str, Any]:
    """A black image with a soft dot in one channel, a keypoint each."""
    rows, columns = np.mgrid[:70, :90] + 0.5
    dots = [np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 8) for x, y, _ in POINTS]
    image = (255 * np.stack(dots, axis=-1)).round().astype(np.uint8)
    known = dict(box=BOX, keypoints=POINTS.copy(), flip_indices=[0, 2, 1], img_path='x.png', area=500.0)
    return known | dict(img=image, ori_shape=(70, 90), image_id=3, instance_id=8)


def center_of(channel: np.ndarray) -> np.ndarray:
    """x and y of a dot: the mean of its pixels' centers."""
    rows, columns = np.mgrid[: channel.shape[0], : channel.shape[1]] + 0.5
    weights = channel / channel.sum()
    return np.array([(columns * weights).sum(), (rows * weights).sum()])


def test_the_box_is_extended_to_the_shape_of_the_crop():
    results = CropInstance((64, 48))(scene())
    assert results['img'].shape == (64, 48, 3) and results['img_shape'] == (64, 48)
    # 36 px are wider for 48 px than 40 px are high for 64 px; with a quarter more, 45 px fill the width.
    corners = np.array([[42 - 22.5, 34 - 30], [42 + 22.5, 34 + 30]])
    mapped = corners @ results['crop_matrix'][:, :2].T + results['crop_matrix'][:, 2]
    assert np.allclose(mapped, [[0, 0], [48, 64]])
    assert np.allclose(results['crop_keypoints'][0], [(40 - 19.5) * 48 / 45, (20 - 4) * 48 / 45, 1])


@pytest.mark.parametrize('size', [(64, 48), (48, 64), (60, 60)])
@pytest.mark.parametrize('epoch', range(8))
def test_keypoints_go_where_their_pixels_go(size, epoch):
    results = CropInstance(size, padding=1.6, **AUGMENTED)(scene() | dict(sample_idx=SampleKey(0, epoch)))
    flipped = np.linalg.det(results['crop_matrix'][:, :2]) < 0
    for number, (x, y, learned) in enumerate(results['crop_keypoints']):
        assert learned == 1
        channel = results['flip_indices'][number] if flipped else number
        assert np.abs(center_of(results['img'][..., channel].astype(float)) - (x, y)).max() < 0.15
    assert np.array_equal(results['keypoints'], POINTS), 'those of the image stay as they are'


def drawn(epochs: int, **settings: float) -> np.ndarray:
    """The maps of that many epochs, (epochs, 2, 3)."""
    crop = CropInstance((64, 48), **settings)
    return np.stack([crop(scene() | dict(sample_idx=SampleKey(5, epoch)))['crop_matrix'] for epoch in range(epochs)])


def test_what_is_drawn_is_as_in_the_paper():
    maps = drawn(400, **AUGMENTED)
    scales = np.sqrt(np.abs(np.linalg.det(maps[:, :, :2]))) * 45 / 48
    assert 1 / 1.3 - 1e-9 <= scales.min() < 0.85 and 1.2 < scales.max() <= 1 / 0.7 + 1e-9
    flipped = np.linalg.det(maps[:, :, :2]) < 0
    assert 0.42 < flipped.mean() < 0.58
    angles = np.degrees(np.arctan2(maps[:, 1, 0], maps[:, 1, 1]))
    assert 0.12 < (np.abs(angles) < 1e-9).mean() < 0.28 and np.abs(angles).max() <= 80 + 1e-6
    turned = angles[np.abs(angles) > 1e-9]
    assert 30 < turned.std() < 42 and abs(turned.mean()) < 7


def test_draws_depend_on_the_key_alone():
    assert np.array_equal(drawn(3, **AUGMENTED), drawn(3, **AUGMENTED))
    first, second, third = drawn(3, **AUGMENTED)
    assert not np.allclose(first, second) and not np.allclose(second, third)
    without = scene()
    with pytest.raises(UsageError, match="CropInstance needs 'sample_idx'"):
        CropInstance(flip_prob=0.5)(without)
    assert CropInstance()(without)['img'].shape == (256, 192, 3)


def test_what_is_not_labeled_or_outside_is_not_learned():
    known = scene()
    known['keypoints'][1] = 0
    known['keypoints'][2, :2] = (88, 2)
    assert CropInstance((64, 48))(known)['crop_keypoints'][:, 2].tolist() == [1, 0, 0]


def test_what_is_packed():
    packed = PackKeypoints()(CropInstance((64, 48))(scene()))
    assert packed['inputs'].shape == (3, 64, 48) and packed['inputs'].dtype == torch.uint8
    sample = packed['data_samples']
    assert sample.ori_shape == (70, 90) and sample.img_id == 3 and sample.instance_id == 8
    truth = sample.gt_instances
    assert truth.keypoints.tolist() == [POINTS[:, :2].tolist()] and truth.keypoints_visible.tolist() == [[2, 2, 1]]
    assert truth.bboxes.tolist() == [[24, 14, 60, 54]] and truth.areas.tolist() == [500]
    assert repr(CropInstance((64, 48), scale=0.3)).startswith('CropInstance(size=[64, 48], padding=1.25, scale=0.3')
