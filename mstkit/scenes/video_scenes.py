"""Built-in videos: objects of the scenes move before a background that stays, and one of them is to be followed.

Each object goes along a smooth path, turns a little, becomes slowly larger or smaller, and is hidden at times by those
that are before it. The one to follow is seen in the first frame; of those that are, it is the one farthest behind.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mstkit.scenes.scene_canvas import Canvas, box_around
from mstkit.scenes.scene_classes import CLASSES
from mstkit.scenes.scene_draws import Draws, rotation
from mstkit.scenes.scene_images import MAX_OBJECTS, SIZES, check_scene
from mstkit.scenes.scene_objects import Pose
from mstkit.utils.checks import check_count

FRAMES = (2, 1000)
_PURPOSE = 3  # of the random numbers, beside those of the other scenes
_SCALE = (0.22, 0.42)  # of an object in the first frame, in sides of the image
_GROWTH = (0.75, 1.35)  # from the first frame to the last
_INSIDE = (0.15, 0.85)  # where the middle of an object may be, along each axis
_TURN, _TURNING = 0.04, 0.25  # tangents of half the largest angle: in the first frame, and from it to the last
_SEEN = 0.95  # share of an object that is seen where it is taken for seen
_PROBE = 64  # side of the image by which that is decided, whatever size is drawn


class VideoScene(NamedTuple):
    """A video and the object to follow.

    Attributes:
        frames: (T, H, W, 3) uint8, RGB.
        boxes: (T, 4) float64: left, top, width and height in pixels, around the whole object, also where another one
            is before it, as far as it lies in the image.
        seen: (T,) float64, the share of the object in the image that nothing hides.
    """

    frames: np.ndarray
    boxes: np.ndarray
    seen: np.ndarray


class _Mover:
    """An object and its path: a parabola between two points, which a third one pulls to its side."""

    def __init__(self, draws: Draws, numbers: tuple[int, str, int, int]) -> None:
        self._numbers = numbers  # of its look, which is drawn anew in each frame, and so is the same
        self._class_id = draws.integer(0, len(CLASSES))
        self._scale = draws.uniform(*_SCALE)
        self._points = [(draws.uniform(*_INSIDE), draws.uniform(*_INSIDE)) for _ in range(3)]
        self._growth = draws.uniform(*_GROWTH)
        self._turn, self._turning = draws.uniform(-_TURN, _TURN), draws.uniform(-_TURNING, _TURNING)

    def pose(self, time: float) -> Pose:
        """The object at a time from 0 to 1."""
        pose = Pose(self._class_id, Draws(*self._numbers), self._scale)
        pose.grow(1.0 + (self._growth - 1.0) * time)
        pose.turn = rotation(self._turn + self._turning * time)
        rest = 1.0 - time
        shares = rest * rest, 2.0 * rest * time, time * time
        pose.x, pose.y = (
            shares[0] * first + shares[1] * pull + shares[2] * last
            for first, pull, last in zip(*self._points, strict=True)
        )
        return pose


def render_video(seed: int, split: str, index: int, size: int = 128, frames: int = 16, objects: int = 4) -> VideoScene:
    """Renders one video.

    Args:
        seed: of the data set; 0 .. 2**64 - 1.
        split: ``'train'``, ``'val'`` or ``'test'``; no two splits share a video.
        index: number of the video in its split, from 0.
        size: side of the frames in pixels.
        frames: how many there are; more are the same movement, more slowly.
        objects: number of objects.

    Returns:
        The video, the same bytes for the same arguments on every machine.

    Raises:
        UsageError: an argument is out of range.
    """
    check_scene(seed, split, index)
    check_count('the size of a scene', size, *SIZES)
    check_count('the number of frames of a video', frames, *FRAMES)
    check_count('the number of objects of a scene', objects, 1, MAX_OBJECTS)
    draws = Draws(seed, split, index, purpose=objects << 16 | _PURPOSE)
    empty = Canvas(size)
    empty.paint_surroundings(draws)
    light = draws.integer(0, 2**32)
    movers = [
        _Mover(draws, (seed, split, index, objects << 16 | number << 8 | _PURPOSE)) for number in range(1, objects + 1)
    ]
    target = _farthest_seen(movers)
    images, boxes, seen = [], [], []
    for frame in range(frames):
        canvas = Canvas(size)
        canvas.pixels += empty.pixels
        poses = [mover.pose(frame / (frames - 1)) for mover in movers]
        for number, pose in enumerate(poses, start=1):
            canvas.paint_object(pose, number)
        canvas.light(Draws(seed, split, light, _PURPOSE))
        images.append(canvas.image())
        whole = canvas.silhouette(poses[target])
        boxes.append(box_around(whole))
        seen.append(np.count_nonzero(canvas.owner == target + 1) / np.count_nonzero(whole))
    return VideoScene(np.stack(images), np.array(boxes), np.array(seen))


def _farthest_seen(movers: list[_Mover]) -> int:
    """The first painted object of those that are seen in the first frame; the last one always is."""
    canvas = Canvas(_PROBE)
    poses = [mover.pose(0.0) for mover in movers]
    for number, pose in enumerate(poses, start=1):
        canvas.paint_object(pose, number)
    for number, pose in enumerate(poses, start=1):
        if np.count_nonzero(canvas.owner == number) >= _SEEN * np.count_nonzero(canvas.silhouette(pose)):
            return number - 1
    raise AssertionError('nothing is before the last object')
