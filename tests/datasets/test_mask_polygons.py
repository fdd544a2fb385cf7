"""Polygons that give back the masks they were made of, whatever their shape."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco_masks

from mstkit.datasets.mask_polygons import mask_to_polygons
from mstkit.scenes.scene_classes import CLASSES
from mstkit.scenes.scene_images import render_scene

RANDOM = np.random.default_rng(0)


def rasterized(polygons: list[list[int]], height: int, width: int) -> np.ndarray:
    """(H, W) bool, as mmdet and COCO's own evaluation see the polygons."""
    if not polygons:
        return np.zeros((height, width), bool)
    return coco_masks.decode(coco_masks.merge(coco_masks.frPyObjects(polygons, height, width))).astype(bool)


def enclosed(polygon: list[int]) -> float:
    """The signed area; a hole that runs the other way round counts against what is around it."""
    x, y = np.array(polygon, np.float64).reshape(-1, 2).T
    return float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2)


def check(mask: np.ndarray) -> list[list[int]]:
    polygons = mask_to_polygons(mask)
    np.testing.assert_array_equal(rasterized(polygons, *mask.shape), mask)
    assert abs(sum(enclosed(polygon) for polygon in polygons)) == mask.sum()
    for polygon in polygons:
        assert len(polygon) >= 8 and all(type(number) is int for number in polygon), 'readers drop what is shorter'
        points = np.array(polygon).reshape(-1, 2)
        assert ((points != np.roll(points, 1, axis=0)).sum(axis=1) == 1).all(), 'along the grid, no point twice'
    return polygons


def test_every_mask_of_three_by_three_pixels() -> None:
    for number in range(2**9):
        check((number >> np.arange(9) & 1).astype(bool).reshape(3, 3))


@pytest.mark.parametrize('share', [0.3, 0.5, 0.7, 0.95])
def test_noise_full_of_parts_and_holes(share: float) -> None:
    for _ in range(25):
        check(RANDOM.random(RANDOM.integers(1, 40, 2)) < share)


def test_a_square_is_its_four_corners() -> None:
    mask = np.zeros((9, 12), bool)
    mask[2:5, 3:12] = True
    (polygon,) = check(mask)
    corners = {(x, y) for x, y in zip(polygon[::2], polygon[1::2], strict=True)}
    assert corners == {(3, 2), (12, 2), (12, 5), (3, 5)} and len(polygon) == 8


def test_a_hole_is_cut_open_and_parts_stay_apart() -> None:
    mask = np.zeros((20, 30), bool)
    mask[1:12, 1:12] = True
    mask[3:10, 3:10] = False
    mask[5:8, 5:8] = True  # a part in the hole
    mask[4:9, 20:25] = True
    polygons = check(mask)
    assert len(polygons) == 3
    # Four corners outside, four inside, and the upper end of the cut twice; at its lower end, one of the two ways past
    # the corner is straight.
    assert sorted(len(polygon) // 2 for polygon in polygons) == [4, 4, 10]


def test_holes_below_each_other_and_at_a_corner() -> None:
    mask = np.ones((12, 9), bool)
    mask[1, 1] = mask[3:5, 4:6] = mask[6:8, 4:6] = mask[9, 4] = mask[10, 5] = mask[11, 8] = mask[10, 7] = False
    (polygon,) = check(mask)
    assert enclosed(polygon) != 0


def test_no_pixel_no_polygon() -> None:
    assert mask_to_polygons(np.zeros((5, 7), bool)) == []


@pytest.mark.parametrize(('size', 'objects'), [(16, 8), (33, 1), (64, 3), (256, 3)])
def test_masks_of_scenes(size: int, objects: int) -> None:
    seen = set()
    for index in range(10):
        for instance in render_scene(0, 'train', index, size, objects).instances:
            check(instance.mask)
            seen.add(instance.class_id)
    assert len(seen) == len(CLASSES)
