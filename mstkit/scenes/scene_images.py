"""Small generated scenes: textured objects of ten classes on clutter, with their masks.

A scene is a function of (seed, split, index) alone and needs no file. It is described in units of its side, so the
same scene can be rendered at any size. Classes differ in shape and texture, see :mod:`mstkit.scenes.scene_classes`;
colors, lighting, positions, sizes, angles, background and clutter have the same distributions for all of them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mstkit.errors import UsageError, nearest
from mstkit.scenes.scene_canvas import Canvas, shrink
from mstkit.scenes.scene_classes import CLASSES
from mstkit.scenes.scene_draws import SPLITS, Draws
from mstkit.scenes.scene_objects import place_objects
from mstkit.utils.checks import check_count

__all__ = ['CLASSES', 'SIZES', 'SPLITS', 'Instance', 'Scene', 'render_scene', 'scene_label']

SIZES = (16, 512)
MAX_OBJECTS = 8


class Instance(NamedTuple):
    """One object of a scene.

    Attributes:
        class_id: index into ``CLASSES``.
        mask: (H, W) bool, the visible part of the object.
    """

    class_id: int
    mask: np.ndarray

    @property
    def box(self) -> tuple[int, int, int, int]:
        """(x1, y1, x2, y2) around the mask, in pixels, x2 and y2 one past the last."""
        rows, columns = np.flatnonzero(self.mask.any(axis=1)), np.flatnonzero(self.mask.any(axis=0))
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


class Scene(NamedTuple):
    """An image and what is on it.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        label: the class of the main object, ``instances[0]``.
        instances: the objects, main one first; their masks are disjoint.
    """

    image: np.ndarray
    label: int
    instances: tuple[Instance, ...]

    def label_map(self) -> np.ndarray:
        """(H, W) uint8: 0 for background, class_id + 1 for an object."""
        labels = np.zeros(self.image.shape[:2], np.uint8)
        for instance in self.instances:
            labels[instance.mask] = instance.class_id + 1
        return labels


def scene_label(seed: int, split: str, index: int) -> int:
    """The class of a scene's main object: every ten scenes in a row hold all ten classes, in a shuffled order."""
    check_scene(seed, split, index)
    block, place = divmod(index, len(CLASSES))
    return Draws(seed, split, block, purpose=1).permutation(len(CLASSES))[place]


def render_scene(seed: int, split: str, index: int, size: int = 64, objects: int = 1) -> Scene:
    """Renders one scene.

    Args:
        seed: of the data set; 0 .. 2**64 - 1.
        split: one of ``SPLITS``; no two splits share a scene.
        index: number of the scene in its split, from 0.
        size: side of the image in pixels.
        objects: number of objects; the more, the smaller they are. The main one is always in front of the others.

    Returns:
        The scene, the same bytes for the same arguments on every machine.

    Raises:
        UsageError: an argument is out of range.
    """
    label = scene_label(seed, split, index)
    check_count('the size of a scene', size, *SIZES)
    check_count('the number of objects of a scene', objects, 1, MAX_OBJECTS)
    draws = Draws(seed, split, index, purpose=objects << 8)
    canvas = Canvas(size)
    canvas.paint_surroundings(draws)
    class_ids = [label, *(draws.integer(0, len(CLASSES)) for _ in range(objects - 1))]
    placed = place_objects(class_ids, draws)
    for number, pose in reversed(list(enumerate(placed, start=1))):
        canvas.paint_object(pose, number)
    for _ in range(draws.integer(0, 2)):
        canvas.paint_clutter(draws, small=True)
    canvas.light(draws)
    taken = np.zeros((size, size), bool)
    instances = []
    for number, pose in enumerate(placed, start=1):
        mask = (shrink((canvas.owner == number).astype(np.float32)) >= 0.5) & ~taken
        taken |= mask
        instances.append(Instance(pose.class_id, mask))
    return Scene(canvas.image(), label, tuple(instances))


def check_scene(seed: int, split: str, index: int) -> None:
    """Raises UsageError for a seed, a split or a number that no scene has."""
    if split not in SPLITS:
        raise UsageError(f'The scenes have no split {split!r}, only {", ".join(SPLITS)}.{nearest(str(split), SPLITS)}')
    check_count('the seed of a scene', seed, 0, 2**64 - 1)
    check_count('the index of a scene', index, 0, 2**64 - 1)
