"""The built-in scenes: reproducible, balanced, honestly labeled, and no class given away by color or place."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from mmengine.dataset import default_collate
from torch.utils.data import DataLoader

import mstkit
from mstkit.errors import UsageError
from mstkit.registry import DATASETS, TRANSFORMS
from mstkit.scenes.scene_classes import SCENE_CLASSES
from mstkit.scenes.scene_dataset import BuiltinScenes
from mstkit.scenes.scene_draws import Draws, smooth_noise
from mstkit.scenes.scene_images import CLASSES, Scene, render_scene, scene_label


def digest(scene: Scene) -> str:
    masks = b''.join(instance.mask.tobytes() for instance in scene.instances)
    return hashlib.sha256(scene.image.tobytes() + masks).hexdigest()


@pytest.fixture(scope='module')
def scenes() -> list[Scene]:
    return [render_scene(0, 'train', index, size=32) for index in range(800)]


@TRANSFORMS.register_module(name='TestNegate', force=True)
class Negate:
    """Writes into the image that it is given, as some transforms do."""

    def __call__(self, results: dict) -> dict:
        np.subtract(255, results['img'], out=results['img'])
        return results


def test_the_same_arguments_give_the_same_bytes_in_another_process() -> None:
    # The other process knows the generator's own modules and NumPy only: it needs no more, and starts at once.
    program = (
        'import hashlib, sys, types\n'
        'sys.path[:0] = sys.argv[2:]\n'
        "for name, folder in (('mstkit', ''), ('mstkit.scenes', '/scenes')):\n"
        '    sys.modules[name] = types.ModuleType(name)\n'
        '    sys.modules[name].__path__ = [sys.argv[1] + folder]\n'
        'from mstkit.scenes.scene_images import render_scene\n'
        'for i in (7, 0, 123456789):\n'
        "    scene = render_scene(3, 'val', i, 40, 1 + i % 3)\n"
        '    masks = b"".join(instance.mask.tobytes() for instance in scene.instances)\n'
        '    print(hashlib.sha256(scene.image.tobytes() + masks).hexdigest())\n'
        "assert 'torch' not in sys.modules\n"
    )
    command = [sys.executable, '-c', program, str(Path(mstkit.__file__).parent), *sys.path]
    there = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert there == [digest(render_scene(3, 'val', index, 40, 1 + index % 3)) for index in (7, 0, 123456789)]


def test_raw_numbers_are_those_of_philox() -> None:
    # Philox4x64-10 with counter (1, 0, 5, 1) and key (3, 2), written out here: no NumPy can change a scene unnoticed.
    mask = 2**64 - 1
    counter, key = [1, 0, 5, 1], [3, 2]
    for _ in range(10):
        first, second = counter[0] * 0xD2E7470EE14C6C93, counter[2] * 0xCA5A826395121157
        counter = [second >> 64 ^ counter[1] ^ key[0], second & mask, first >> 64 ^ counter[3] ^ key[1], first & mask]
        key = [(key[0] + 0x9E3779B97F4A7C15) & mask, (key[1] + 0xBB67AE8584CAA73B) & mask]
    draws = Draws(seed=3, split='val', index=5, purpose=2)
    assert [draws.uniform() for _ in range(4)] == [(word >> 11) / 2**53 for word in counter]


def test_draws_are_uniform() -> None:
    draws = Draws(0, 'train', 0)
    assert abs(draws.array(10000).mean() - 0.5) < 0.02
    x, y = np.array([draws.direction(0.36) for _ in range(2000)]).T
    angles = np.degrees(np.arctan2(y, x))
    assert np.allclose(x * x + y * y, 1) and abs(angles.mean()) < 2
    assert 39 < angles.max() < 40 and -40 < angles.min() < -39 and abs(np.abs(angles).mean() - 20) < 1
    assert sorted(draws.permutation(10)) == list(range(10))
    assert {draws.integer(2, 5) for _ in range(100)} == {2, 3, 4}
    red, green, blue = np.array([draws.color(0.5) for _ in range(500)]).T
    assert np.allclose(0.299 * red + 0.587 * green + 0.114 * blue, 0.5, atol=0.12) and red.std() > 0.1


def test_smooth_noise_meets_its_lattice_and_wraps() -> None:
    lattice = Draws(0, 'train', 0).array(4, 5)
    rows, columns = np.arange(4, dtype=np.float32)[:, None], np.arange(5, dtype=np.float32)[None]
    np.testing.assert_array_equal(smooth_noise(lattice, rows, columns), lattice)
    np.testing.assert_array_equal(smooth_noise(lattice, rows + 4, columns - 5), lattice)
    between = smooth_noise(lattice, np.float32([0.5]), np.float32([0.0]))
    np.testing.assert_allclose(between, (lattice[0, 0] + lattice[1, 0]) / 2, rtol=1e-6)


def test_seed_split_index_and_number_of_objects_each_change_the_scene() -> None:
    arguments = [(0, 'train', 0), (1, 'train', 0), (0, 'val', 0), (0, 'test', 0), (0, 'train', 1)]
    variants = [render_scene(*each, size=32) for each in arguments] + [render_scene(0, 'train', 0, 32, objects=2)]
    assert len({scene.image.tobytes() for scene in variants}) == len(variants)


def test_train_and_val_share_no_scene(scenes: list[Scene]) -> None:
    train = {scene.image.tobytes() for scene in scenes}
    val = {render_scene(0, 'val', index, size=32).image.tobytes() for index in range(200)}
    assert len(train) == 800 and len(val) == 200 and not train & val


def test_every_ten_scenes_hold_every_class_in_an_order_that_changes() -> None:
    blocks = [
        tuple(scene_label(0, 'train', index) for index in range(start, start + 10)) for start in range(0, 500, 10)
    ]
    assert all(sorted(block) == list(range(10)) for block in blocks)
    assert len(set(blocks)) == 50
    assert len(CLASSES) == len(set(CLASSES)) == 10


@pytest.mark.parametrize('size', [16, 32, 33, 48, 64, 96, 128])
def test_one_object_inside_the_frame_at_every_size(size: int) -> None:
    for index in range(20):
        scene = render_scene(0, 'train', index, size)
        (instance,) = scene.instances
        assert scene.image.shape == (size, size, 3) and scene.image.dtype == np.uint8
        assert instance.mask.shape == (size, size) and instance.mask.dtype == bool
        assert 0.05 < instance.mask.mean() < 0.9
        assert instance.class_id == scene.label == scene_label(0, 'train', index)
        x1, y1, x2, y2 = instance.box
        assert 0 <= x1 < x2 <= size and 0 <= y1 < y2 <= size
        assert instance.mask[y1:y2, x1:x2].sum() == instance.mask.sum()
        assert scene.image.std() > 5


def test_a_scene_is_the_same_at_every_size() -> None:
    for index in range(10):
        small, large = render_scene(0, 'train', index, 32), render_scene(0, 'train', index, 128)
        shrunk = large.image.reshape(32, 4, 32, 4, 3).mean((1, 3))
        assert np.abs(shrunk - small.image).mean() < 4
        share = large.instances[0].mask.reshape(32, 4, 32, 4).mean((1, 3))
        assert (small.instances[0].mask == (share >= 0.5)).mean() > 0.97


def test_the_mask_lies_on_the_object() -> None:
    # Surfaces differ from what is around them: the edge of the mask is where the image changes most.
    inner, outer = [], []
    for index in range(50):
        scene = render_scene(0, 'train', index, 64)
        step = np.abs(np.diff(scene.image.astype(int), axis=1)).sum(-1)
        edge = np.diff(scene.instances[0].mask, axis=1)
        inner.append(step[edge].mean())
        outer.append(step[~scene.instances[0].mask[:, 1:] & ~edge].mean())
    assert np.mean(inner) > 3 * np.mean(outer)


@pytest.mark.parametrize('objects', [2, 3, 8])
def test_several_objects_are_seen_and_do_not_overlap(objects: int) -> None:
    for index in range(20):
        scene = render_scene(1, 'val', index, 64, objects)
        masks = np.stack([instance.mask for instance in scene.instances])
        assert len(masks) == objects and masks.sum(0).max() == 1
        assert masks.any((1, 2)).all() and masks[0].sum() > 20
        assert scene.instances[0].class_id == scene.label
        labels = scene.label_map()
        assert labels.dtype == np.uint8
        for instance in scene.instances:
            assert (labels[instance.mask] == instance.class_id + 1).all()
        np.testing.assert_array_equal(labels == 0, ~masks.any(0))


def test_silhouettes_and_surfaces_differ() -> None:
    grid = np.linspace(-1.2, 1.2, 60, dtype=np.float32)
    shapes = [kind.silhouette(grid[None], grid[:, None]) > 0 for kind in SCENE_CLASSES]
    for number, one in enumerate(shapes):
        assert 0.1 < one.mean() < 0.6 and not one[[0, -1]].any() and not one[:, [0, -1]].any()
        for other in shapes[number + 1 :]:
            assert (one & other).sum() / (one | other).sum() < 0.9
    assert len({kind.surface for kind in SCENE_CLASSES}) == len(SCENE_CLASSES)


def nearest_neighbor_accuracy(features: np.ndarray, labels: np.ndarray, k: int = 20) -> float:
    """Leave-one-out k-NN accuracy on standardized features."""
    features = (features - features.mean(0)) / (features.std(0) + 1e-6)
    distance = torch.cdist(torch.from_numpy(features), torch.from_numpy(features)).fill_diagonal_(float('inf'))
    votes = torch.from_numpy(labels)[distance.topk(k, largest=False).indices]
    return float((votes.mode(1).values.numpy() == labels).mean())


def test_neither_color_nor_place_nor_pixels_tell_the_class(scenes: list[Scene]) -> None:
    labels = np.array([scene.label for scene in scenes])
    images = np.stack([scene.image for scene in scenes]).astype(np.float64)
    histogram = np.stack([np.histogram(image, 16, (0, 256))[0] for image in images]).astype(np.float64)
    boxes = np.array([scene.instances[0].box for scene in scenes], np.float64)
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    # Chance is 0.10 and three deviations at 800 scenes are 0.03. The histogram knows a little more: an object fills
    # most of the frame, and the share of its lighter color differs from surface to surface.
    for features, most in ((images.mean((1, 2)), 0.16), (histogram, 0.2), (centers, 0.16)):
        assert nearest_neighbor_accuracy(features, labels) < most
    assert nearest_neighbor_accuracy(np.concatenate([centers, boxes[:, 2:] - boxes[:, :2]], 1), labels) < 0.2
    assert nearest_neighbor_accuracy(images.reshape(800, -1), labels) < 0.3


def test_the_surface_of_the_object_tells_the_class(scenes: list[Scene]) -> None:
    # What a class is *meant* to be known by: with place, color and the way round taken away, shape alone does well.
    labels = np.array([scene.label for scene in scenes])
    features = []
    for scene in scenes:
        y, x = np.nonzero(scene.instances[0].mask)
        radius = np.hypot(x - x.mean(), y - y.mean())
        features.append(np.quantile(radius / np.sqrt(len(x)), np.linspace(0, 1, 11)))
    assert nearest_neighbor_accuracy(np.array(features), labels) > 0.35


def test_data_set_gives_samples_as_mmengine_does() -> None:
    data_set = DATASETS.build({'type': 'BuiltinScenes', 'split': 'val', 'num_images': 30, 'image_size': 32, 'seed': 5})
    assert isinstance(data_set, BuiltinScenes) and len(data_set) == 30
    assert data_set.metainfo['classes'] == CLASSES
    sample = data_set[7]
    scene = render_scene(5, 'val', 7, 32)
    np.testing.assert_array_equal(sample['img'], scene.image)
    assert sample['gt_label'] == scene.label and sample['sample_idx'] == 7
    assert sample['ori_shape'] == sample['img_shape'] == (32, 32)
    assert data_set[-1]['sample_idx'] == 29
    assert data_set.get_data_info(7)['gt_label'] == scene.label
    counts = np.bincount([data_set.get_data_info(i)['gt_label'] for i in range(30)])
    np.testing.assert_array_equal(counts, 3)


def test_a_transform_that_writes_into_the_image_does_not_spoil_the_next_epoch() -> None:
    for cache in (True, False):
        data_set = BuiltinScenes(num_images=3, image_size=32, cache=cache, pipeline=[{'type': 'TestNegate'}])
        expected = 255 - render_scene(0, 'train', 1, 32).image
        for _ in range(2):
            np.testing.assert_array_equal(data_set[1]['img'], expected)


def test_the_index_keeps_its_own_type() -> None:
    class Key(int):
        epoch = 4

    assert BuiltinScenes(num_images=3, image_size=32)[Key(2)]['sample_idx'].epoch == 4


def test_indices_and_subsets_keep_image_and_label_together() -> None:
    whole = BuiltinScenes(num_images=20, image_size=32)
    for part in (BuiltinScenes(num_images=20, image_size=32, indices=[4, 9]), whole.get_subset([4, 9])):
        assert len(part) == 2
        for place, index in enumerate((4, 9)):
            np.testing.assert_array_equal(part[place]['img'], whole[index]['img'])
            assert part[place]['gt_label'] == whole[index]['gt_label']


def test_images_are_rendered_once_and_only_when_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    rendered = Mock(wraps=render_scene)
    monkeypatch.setattr('mstkit.scenes.scene_dataset.render_scene', rendered)
    data_set = BuiltinScenes(num_images=6, image_size=32, lazy_init=True)
    rendered.reset_mock()
    data_set.full_init()
    assert rendered.call_count == 6
    for _ in range(2):
        for index in range(6):
            data_set[index]
    assert rendered.call_count == 6


def test_two_workers_see_what_one_process_sees() -> None:
    pipeline = [{'type': 'PackInputs'}]
    data_set = BuiltinScenes(num_images=12, image_size=32, pipeline=pipeline)
    batches = list(DataLoader(data_set, batch_size=4, num_workers=2, collate_fn=default_collate))
    images = torch.cat([batch['inputs'] for batch in batches])
    labels = [int(sample.gt_label) for batch in batches for sample in batch['data_samples']]
    expected = [render_scene(0, 'train', index, 32) for index in range(12)]
    np.testing.assert_array_equal(images.permute(0, 2, 3, 1), np.stack([scene.image for scene in expected]))
    assert labels == [scene.label for scene in expected]


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        ({'split': 'valid'}, "'valid'.*Did you mean val"),
        ({'num_images': 0}, 'num_images.*0'),
        ({'num_images': 2.5}, 'num_images.*2.5'),
        ({'image_size': 8}, r'is 8.*\[16, 512\]'),
        ({'image_size': 32.0}, '32.0'),
        ({'seed': -1}, 'seed.*-1'),
        ({'seed': 0.5}, 'seed.*0.5'),
        ({'indices': [3]}, 'indices.*3'),
    ],
)
def test_wrong_arguments_are_told(arguments: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        BuiltinScenes(**{'num_images': 2, 'image_size': 32, **arguments})


@pytest.mark.parametrize(('name', 'value'), [('objects', 0), ('objects', 9), ('size', 1000), ('index', -1)])
def test_wrong_scenes_are_told(name: str, value: int) -> None:
    with pytest.raises(UsageError, match=str(value)):
        render_scene(**{'seed': 0, 'split': 'train', 'index': 0, name: value})
