"""Bodies of the built-in figures: where their joints are, and the parts of which they are painted.

A figure has the proportions of a doll and a random pose. It is turned about its upright axis: seen from behind, its
left is on the left of the image, and what tells is the face, the feet and which limbs are before the body. A limb and
its counterpart look alike, and colors and textures are random, so that a joint is found by its place in the body.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mstkit.scenes.scene_classes import SCENE_CLASSES, Cells
from mstkit.scenes.scene_draws import Draws

SIDES = ('left', 'right')
_OF_A_SIDE = ('shoulder', 'elbow', 'wrist', 'hip', 'knee', 'ankle')
# COCO's names and, but for eyes and ears, its order.
JOINTS = ('nose', *(f'{side}_{joint}' for joint in _OF_A_SIDE for side in SIDES))
SKELETON = (
    ('left_shoulder', 'right_shoulder'),
    ('left_hip', 'right_hip'),
    *((f'{side}_{first}', f'{side}_{second}') for side in SIDES for first, second in (
        ('shoulder', 'elbow'), ('elbow', 'wrist'), ('shoulder', 'hip'), ('hip', 'knee'), ('knee', 'ankle'),
    )),
    *(('nose', f'{side}_shoulder') for side in SIDES),
)  # fmt: skip

# Lengths in heights of a figure, angles as tangents of their fourth part.
_TORSO, _NECK, _HEAD = 0.29, 0.13, 0.095
_SHOULDERS, _HIPS = 0.135, 0.075  # half widths
_UPPER_ARM, _FOREARM, _THIGH, _SHANK, _FOOT = 0.18, 0.17, 0.235, 0.235, 0.07
_THICK = dict(upper_arm=0.042, forearm=0.034, hand=0.038, thigh=0.056, shank=0.042, foot=0.034, torso=0.07)
_RAISED, _BENT_ARM = (-0.08, 0.82), (-0.5, 0.65)  # arms: -18 to 157 degrees, -106 to 132
_SPREAD, _WIDE_SPREAD, _BENT_LEG = (-0.03, 0.13), (0.0, 0.4), (-0.3, 0.06)  # legs: -7 to 30, 0 to 87, -67 to 14

Point = tuple[float, float]


class Stroke(NamedTuple):
    """A line from one point to another that is as wide as a circle at either end."""

    first: Point
    second: Point
    radii: tuple[float, float]

    def inside(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The distance to the outline, positive inside, in sides of the image."""
        along, down = self.second[0] - self.first[0], self.second[1] - self.first[1]
        square = max(along * along + down * down, 1e-12)
        x, y = x - self.first[0], y - self.first[1]
        share = np.clip((x * along + y * down) * (1.0 / square), 0.0, 1.0)
        x, y = x - share * along, y - share * down
        return self.radii[0] + (self.radii[1] - self.radii[0]) * share - np.sqrt(x * x + y * y)


class Coat(NamedTuple):
    """What a part looks like: two colors and the surface of a class of the scenes."""

    colors: tuple[np.ndarray, np.ndarray]
    class_id: int | None
    period: float
    phase: Point

    @classmethod
    def draw(cls, draws: Draws, height: float, plain: float = 0.35) -> Coat:
        """A random one; ``plain`` is how often there is no pattern."""
        dark = draws.uniform(0.05, 0.5)
        colors = draws.color(dark, 0.8), draws.color(dark + draws.uniform(0.2, 0.5), 0.8)
        class_id = draws.integer(0, len(SCENE_CLASSES))
        period, phase = height * draws.uniform(0.05, 0.1), (draws.uniform(), draws.uniform())
        has_none = draws.uniform() < plain or SCENE_CLASSES[class_id].name == 'hourglass'  # an outline, no pattern
        first, second = (np.array(color, np.float32).reshape(3, 1, 1) for color in colors)
        return cls((first, second), None if has_none else class_id, period, phase)

    def color(self, along: np.ndarray, across: np.ndarray, rim: np.ndarray, side: int, draws: Draws) -> np.ndarray:
        """(3, h, w) or (3, 1, 1)."""
        if self.class_id is None:
            return self.colors[0]
        kind = SCENE_CLASSES[self.class_id]
        period = self.period * kind.coarseness
        x, y = along * (1.0 / period) + self.phase[0], across * (1.0 / period) + self.phase[1]
        return self.colors[0] + (self.colors[1] - self.colors[0]) * kind.surface(Cells(x, y, rim, period * side, draws))


class Part(NamedTuple):
    """What is painted at once.

    Attributes:
        strokes: of which it is made.
        coat: what it looks like.
        joints: that are visible where this part is.
    """

    strokes: tuple[Stroke, ...]
    coat: Coat
    joints: tuple[str, ...] = ()

    def inside(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The distance to the outline, positive inside, in sides of the image."""
        rim = self.strokes[0].inside(x, y)
        for stroke in self.strokes[1:]:
            rim = np.maximum(rim, stroke.inside(x, y))
        return rim


class Body:
    """A figure in a random pose.

    Args:
        draws: of everything.
        height: of the figure when it stands upright, in sides of the image.
        center: of its torso.

    Attributes:
        joints: where they are, by name, in sides of the image.
        parts: in the order in which they are painted.
        facing: the cosine and the sine of the angle by which it is turned; the cosine is below 0 when it is seen from
            behind, the sine is above 0 when it looks to the right.
    """

    def __init__(self, draws: Draws, height: float, center: Point) -> None:
        self._draws, self._height = draws, height
        cosine, sine = draws.direction(0.7)  # at most 70 degrees, after which left and right would fall together
        self.facing = (cosine if draws.uniform() < 0.5 else -cosine), sine
        self._thick = {name: size * height * draws.uniform(0.85, 1.2) for name, size in _THICK.items()}
        self._skin, self._coats = self._draw_coats()
        tilt = draws.direction(0.6 if draws.uniform() < 0.25 else 0.15)
        self._up = tilt[1], -tilt[0]
        self._down = -tilt[1], tilt[0]
        self._right = tilt  # of the image, turned with the torso
        half = self._length(_TORSO) * 0.5
        pelvis, chest = self._from(center, self._down, half), self._from(center, self._up, half)
        self.joints: dict[str, Point] = {}
        limbs = [limb for side in SIDES for limb in self._limbs(side, chest, pelvis)]
        torso = self._torso(chest, pelvis)
        head = self._head(chest)
        limbs.sort(key=lambda limb: limb[0])
        behind = [part for depth, parts in limbs if depth < 0 for part in parts]
        before = [part for depth, parts in limbs if depth >= 0 for part in parts]
        self.parts: tuple[Part, ...] = (*behind, torso, *head, *before)

    def covers(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Bool: where the body is."""
        found = self.parts[0].inside(x, y) > 0
        for part in self.parts[1:]:
            found = found | (part.inside(x, y) > 0)
        return found

    def _draw_coats(self) -> tuple[Coat, dict[str, Coat]]:
        skin = Coat.draw(self._draws, self._height, plain=1.0)
        coats = {name: Coat.draw(self._draws, self._height) for name in _THICK}
        if self._draws.uniform() < 0.5:  # bare arms
            coats['forearm'] = skin
        return skin, coats | dict(hand=skin)

    def _length(self, length: float, least: float = 0.9) -> float:
        """A length of this figure; limbs look shorter where they point to the viewer."""
        return length * self._height * self._draws.uniform(least, 1.08)

    def _from(self, point: Point, direction: Point, length: float) -> Point:
        return point[0] + direction[0] * length, point[1] + direction[1] * length

    def _limbs(self, side: str, chest: Point, pelvis: Point) -> list[tuple[float, tuple[Part, ...]]]:
        """An arm and a leg, each with its depth: above 0 before the torso."""
        draws, (cosine, sine) = self._draws, self.facing
        sign = 1.0 if side == 'left' else -1.0  # the left of one who looks at us is on the right of the image
        nearness = -sine * sign
        outward = sign if cosine > 0 else -sign
        found: list[tuple[float, tuple[Part, ...]]] = []
        for joints, root, half, lengths, names, ranges in (
            (_OF_A_SIDE[:3], chest, _SHOULDERS, (_UPPER_ARM, _FOREARM), ('upper_arm', 'forearm', 'hand'),
             (_RAISED, _BENT_ARM)),
            (_OF_A_SIDE[3:], pelvis, _HIPS, (_THIGH, _SHANK), ('thigh', 'shank', 'foot'),
             (_WIDE_SPREAD if draws.uniform() < 0.25 else _SPREAD, _BENT_LEG)),
        ):  # fmt: skip
            # Seen from the side a limb may as well point to the back.
            way = outward if draws.uniform() < 0.5 + abs(cosine) else -outward
            start = self._from(root, self._right, self._length(half) * cosine * sign)
            direction = _turned(self._down, -way * draws.uniform(*ranges[0]))
            middle = self._from(start, direction, self._length(lengths[0], 0.75))
            direction = _turned(direction, -way * draws.uniform(*ranges[1]))
            end = self._from(middle, direction, self._length(lengths[1], 0.75))
            first, second, third = (f'{side}_{joint}' for joint in joints)
            self.joints |= {first: start, second: middle, third: end}
            thick = [self._thick[name] for name in names]
            tip = end
            if names[2] == 'foot':
                ahead = sine + 0.35 * cosine * sign  # feet point a little outward
                tip = self._from(end, self._right, _FOOT * self._height * ahead)
                tip = self._from(tip, self._down, 0.02 * self._height)
            parts = (
                Part((Stroke(start, middle, (thick[0], thick[0] * 0.85)),), self._coats[names[0]], (first, second)),
                Part((Stroke(middle, end, (thick[1], thick[1] * 0.85)),), self._coats[names[1]], (second, third)),
                Part((Stroke(end, tip, (thick[2], thick[2] * 0.9)),), self._coats[names[2]], (third,)),
            )
            # Arms hang before the torso more often when it looks at us.
            depth = nearness + (cosine * 0.4 + draws.uniform(-0.4, 0.4) if names[2] == 'hand' else -2.0)
            found.append((depth, parts))
        return found

    def _torso(self, chest: Point, pelvis: Point) -> Part:
        left, right = (f'{side}_shoulder' for side in SIDES)
        low_left, low_right = (f'{side}_hip' for side in SIDES)
        wide = self._thick['torso']
        at = self.joints
        lines = (
            (chest, pelvis, 1.0),
            (at[left], at[low_left], 0.75),
            (at[right], at[low_right], 0.75),
            (at[left], at[right], 0.7),
            (at[low_left], at[low_right], 0.8),
            *((_middle(chest, at[f'{side}_shoulder']), _middle(pelvis, at[f'{side}_hip']), 0.9) for side in SIDES),
        )
        strokes = tuple(Stroke(first, second, (wide * share, wide * share)) for first, second, share in lines)
        return Part(strokes, self._coats['torso'], (left, right, low_left, low_right))

    def _head(self, chest: Point) -> tuple[Part, ...]:
        """Neck, head, and of the face what can be seen; the nose is in its middle."""
        draws, (cosine, sine) = self._draws, self.facing
        nod = _turned(self._up, draws.uniform(-0.1, 0.1))
        across = -nod[1], nod[0]
        middle = self._from(chest, nod, self._length(_NECK) + 0.03 * self._height)
        radius = _HEAD * self._height * draws.uniform(0.9, 1.15)
        neck = Part((Stroke(chest, middle, (radius * 0.4, radius * 0.4)),), self._skin)
        hair = _plain(draws.color(draws.uniform(0.05, 0.6), 0.6))
        crown = self._from(middle, nod, radius * 0.15)
        head = Part((Stroke(crown, middle, (radius, radius * 0.95)),), hair)

        def on_face(turn: Point, high: float, share: float) -> tuple[Point, bool]:
            """A place of the face, ``turn`` beside its middle, and whether it is on our side."""
            ahead = cosine * turn[0] - sine * turn[1], sine * turn[0] + cosine * turn[1]
            place = self._from(self._from(middle, across, radius * share * ahead[1]), nod, radius * high)
            return place, ahead[0] > 0.05

        nose, _ = on_face((1.0, 0.0), -0.1, 0.9)
        self.joints['nose'] = nose
        if cosine < 0:
            return neck, head
        light = draws.uniform(0.55, 0.85)
        face = self._from(self._from(middle, across, radius * 0.35 * sine), nod, -radius * 0.15)
        skin = _plain(draws.color(light, 0.25))
        parts = [neck, head, Part((Stroke(face, face, (radius * 0.75,) * 2),), skin, ('nose',))]
        eye = _plain(draws.color(0.05, 0.1))
        for turn in ((0.88, 0.47), (0.88, -0.47)):  # 28 degrees
            place, seen = on_face(turn, 0.15, 0.85)
            if seen:
                parts.append(Part((Stroke(place, place, (radius * 0.16,) * 2),), eye, ('nose',)))
        mouth = [on_face(turn, -0.5, 0.7) for turn in ((0.94, 0.34), (0.94, -0.34))]
        red, bright = _plain((0.65, 0.15, 0.15)), _plain(draws.color(light - 0.3, 0.4))
        parts.append(Part((Stroke(mouth[0][0], mouth[1][0], (radius * 0.09,) * 2),), red, ('nose',)))
        parts.append(Part((Stroke(nose, nose, (radius * 0.17,) * 2),), bright, ('nose',)))
        return tuple(parts)


def _middle(first: Point, second: Point) -> Point:
    return (first[0] + second[0]) * 0.5, (first[1] + second[1]) * 0.5


def _plain(color: tuple[float, float, float]) -> Coat:
    one = np.array(color, np.float32).reshape(3, 1, 1)
    return Coat((one, one), None, 1.0, (0.0, 0.0))


def _turned(direction: Point, fourth: float) -> Point:
    """A direction after a turn from the right to below, by an angle of whose fourth part this is the tangent."""
    cosine, sine = (1.0 - fourth * fourth) / (1.0 + fourth * fourth), 2.0 * fourth / (1.0 + fourth * fourth)
    for _ in range(2):
        direction = direction[0] * cosine - direction[1] * sine, direction[0] * sine + direction[1] * cosine
    return direction
