"""Scenes in space: pinned bytes, and a depth that fits the image; their files are what the probe of depth reads."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from PIL import Image

from mstkit.datasets.depth_pairs import find_pairs, read_depth
from mstkit.errors import UsageError
from mstkit.scenes.depth_files import ensure_depth_scenes
from mstkit.scenes.depth_scenes import NEAREST, WALL, render_depth_scene

PINNED = '3e09bad9a08c246e'


def test_the_bytes_are_pinned():
    found = hashlib.sha256()
    for index in range(3):
        scene = render_depth_scene(0, 'train', index, 48)
        found.update(scene.image.tobytes() + scene.depth.tobytes())
    assert found.hexdigest()[:16] == PINNED


def test_depth_is_that_of_a_floor_a_wall_and_objects():
    objects = []
    for index in range(20):
        scene = render_depth_scene(0, 'val', index, 64)
        depth = scene.depth
        assert depth.shape == (64, 64) and depth.dtype == np.float32 and scene.image.shape == (64, 64, 3)
        assert depth.min() >= NEAREST and depth.max() == WALL
        # Floor and wall have the same depth in a whole row; an object has one depth, and hides what is farther.
        floor = np.median(depth[:, :1].repeat(2, 1), axis=1)
        values, counts = np.unique(depth, return_counts=True)
        one_depth = values[(counts >= 40) & (values < WALL)]
        objects.append(len([value for value in one_depth if len(set(np.nonzero(depth == value)[0])) > 3]))
        assert floor[-1] < 1.1 * NEAREST or depth[-1, 0] in one_depth
    assert np.mean(objects) > 3  # of five, some of which hide others


def test_nearer_objects_are_larger():
    """The area of an object that nothing hides falls with the square of its depth."""
    areas: list[tuple[float, int]] = []
    for index in range(60):
        depth = render_depth_scene(1, 'train', index, 96, objects=1).depth
        values, counts = np.unique(depth, return_counts=True)
        spread = [value for value in values if value < WALL and len(set(np.nonzero(depth == value)[0])) > 3]
        areas += [(float(value), int(counts[values == value][0])) for value in spread]
    inverse, area = np.array([1 / value**2 for value, _ in areas]), np.array([count for _, count in areas])
    assert len(areas) >= 50 and np.corrcoef(inverse, area)[0, 1] > 0.8


def test_files_are_read_back_and_completed(tmp_path):
    folder = ensure_depth_scenes(tmp_path / 'a', 3, 2, 32)
    pairs = find_pairs(folder, 'train').pairs
    assert [pair.image.name for pair in pairs] == ['000000.png', '000001.png', '000002.png']
    for index, pair in enumerate(pairs):
        scene = render_depth_scene(0, 'train', index, 32)
        assert np.array_equal(np.asarray(Image.open(pair.image)), scene.image)
        assert np.abs(read_depth(pair.depth) - scene.depth).max() <= 0.00051
    before = {path: path.read_bytes() for path in folder.rglob('*.png')}
    pairs[1].depth.unlink()
    ensure_depth_scenes(folder, 3, 2, 32)
    assert {path: path.read_bytes() for path in folder.rglob('*.png')} == before
    assert json.loads((folder / 'depth_scenes.json').read_text())['objects'] == 5
    with pytest.raises(UsageError, match='holds other scenes'):
        ensure_depth_scenes(folder, 3, 2, 48)
    (tmp_path / 'b').mkdir()
    (tmp_path / 'b' / 'x').write_text('')
    with pytest.raises(UsageError, match='holds something else'):
        ensure_depth_scenes(tmp_path / 'b')
    with pytest.raises(UsageError, match='the number of objects of a scene is 9'):
        ensure_depth_scenes(tmp_path / 'c', objects=9)
    assert not (tmp_path / 'c').exists()
