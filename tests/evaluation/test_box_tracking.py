"""A box is followed by patch tokens: where things move, grow and leave; and its parts against plain computations."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image

from mstkit.errors import UsageError
from mstkit.evaluation.benchmarks import box_tracking
from mstkit.evaluation.benchmarks.box_tracking import Tracking, follow_box, still_box
from mstkit.evaluation.benchmarks.tracking_files import GOT10K, TrackedVideo, find_tracked
from mstkit.evaluation.benchmarks.tracking_scores import overlaps

from .videos import ColorNetwork, write_got10k


def video(folder: Path, boxes: list[tuple[int, int, int, int]], size: tuple[int, int] = (96, 64)) -> TrackedVideo:
    """A red rectangle on a blue texture, which may reach out of the frame."""
    back = np.random.default_rng(0).integers((20, 60, 150), (80, 120, 210), (size[1], size[0], 3))
    paths = []
    for number, (left, top, width, height) in enumerate(boxes):
        pixels = back.copy()
        pixels[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)] = [220, 40, 30]
        paths.append(folder / f'{number}.png')
        Image.fromarray(pixels.astype(np.uint8)).save(paths[-1])
    true = np.array(boxes, np.float64)
    return TrackedVideo('one', GOT10K, tuple(paths), size, true, np.ones(len(boxes), bool))


def test_squares_of_the_made_videos_are_followed(tmp_path):
    for one in find_tracked(write_got10k(tmp_path / 'got', 8)):
        found = follow_box(ColorNetwork(), one)
        assert found.boxes.shape == (8, 4) and found.seconds.shape == (8,) and (found.seconds > 0).all()
        assert found.boxes[0].tolist() == one.boxes[0].tolist()
        assert overlaps(found.boxes, one.boxes).min() > 0.7
        assert overlaps(still_box(one), one.boxes)[-1] < 0.1


def test_what_stands_still_stays_exactly(tmp_path):
    one = video(tmp_path, [(21, 13, 17, 22)] * 5)
    found = follow_box(ColorNetwork(), one).boxes
    assert np.array_equal(found[:, 2:], one.boxes[:, 2:]) and np.abs(found - one.boxes).max() < 1


def test_a_box_grows_and_shrinks_with_its_target(tmp_path):
    for step in (1, -1):
        sizes = [(32 - step * index, 24 - step * index // 2, 30 + step * index) for index in range(9)]
        one = video(tmp_path, [(left, top, side, side) for left, top, side in sizes])
        found = follow_box(ColorNetwork(), one).boxes
        # A box that keeps its size would end at an overlap of 0.62 or 0.54.
        assert overlaps(found, one.boxes).min() > 0.7
        assert found[-1, 2:] == pytest.approx(one.boxes[-1, 2:], rel=0.2)


def test_a_target_that_leaves_keeps_a_box_in_the_frame(tmp_path):
    one = video(tmp_path, [(60 + 8 * index, 20, 20, 20) for index in range(8)])
    found = follow_box(ColorNetwork(), one).boxes
    assert np.isfinite(found).all() and (found[:, 2:] > 0).all()
    middles = found[:, :2] + found[:, 2:] / 2
    assert (middles >= 0).all() and (middles <= one.size).all()
    assert overlaps(found[:3], one.boxes[:3]).min() > 0.6


def test_small_targets_are_enlarged(tmp_path):
    """The network sees a square around the box, in the size that was asked for, whatever the frame is."""
    one = video(tmp_path, [(40 + index, 30, 6, 6) for index in range(5)])
    network = ColorNetwork()
    found = follow_box(network, one, Tracking(region=4, size=50)).boxes
    assert set(network.seen[1:]) == {(1, 3, 48, 48)}
    assert overlaps(found, one.boxes).min() > 0.5


def test_frames_are_read_one_by_one_around_the_last_box(tmp_path, monkeypatch):
    spy = Mock(wraps=box_tracking._cut)
    monkeypatch.setattr(box_tracking, '_cut', spy)
    one = video(tmp_path, [(20 + 4 * index, 20, 16, 16) for index in range(4)])
    found = follow_box(ColorNetwork(), one, Tracking(region=3)).boxes
    seen = [call.args[1] for call in spy.call_args_list]
    for square, box in zip(seen, [found[0], *found[:-1]], strict=True):
        assert square.side == round(3 * (box[2] * box[3]) ** 0.5)
        middle = np.array([square.left, square.top]) + square.side / 2
        assert np.abs(middle - box[:2] - box[2:] / 2).max() <= 0.5


def test_the_share_of_patches_is_that_of_counted_pixels():
    square = box_tracking._Square(-4, 6, 40)
    found = box_tracking._share_of_patches(np.array([3.0, 1.0, 19.0, 22.0]), square, 5)
    pixels = np.zeros((40, 40))
    pixels[0:17, 7:26] = 1  # rows 1 to 23 of the frame begin above the square
    assert found.numpy() == pytest.approx(pixels.reshape(5, 8, 5, 8).mean(axis=(1, 3)))


def test_the_box_is_the_best_of_all():
    """Against a search over every place and size with loops; a change of 5 % costs about half a percent of overlap."""
    labels = torch.rand(4, 4, generator=torch.Generator().manual_seed(0)) ** 3
    square, last = box_tracking._Square(10, 20, 32), np.array([17.0, 30.0, 14.0, 10.0])
    found = box_tracking._box_of(labels, square, last, (200, 200))
    cells = torch.nn.functional.interpolate(
        labels[None, None].double(), (16, 16), mode='bilinear', align_corners=False
    )[0, 0].numpy()
    # In parts of a quarter of a pixel: a cell has 2 px.
    fine = cells.repeat(8, 0).repeat(8, 1)
    best, wanted = 0.0, [0.0] * 4
    for row in range(-16, 17):
        for column in range(-16, 17):
            for wide in (1 / 1.05, 1, 1.05):
                for high in (1 / 1.05, 1, 1.05):
                    width, height = 14 * wide, 10 * high
                    x, y = 17 + 7 + 2 * column - 10, 30 + 5 + 2 * row - 20
                    if not (0 <= x <= 32 and 0 <= y <= 32):
                        continue
                    edges = np.arange(128) / 4
                    share = [
                        (np.minimum(edges + 0.25, at + side / 2) - np.maximum(edges, at - side / 2)).clip(0) * 4
                        for at, side in ((y, height), (x, width))
                    ]
                    within = share[0] @ fine @ share[1] / 64
                    overlap = within / (cells.sum() + width * height / 4 - within)
                    overlap -= 0.1 * (abs(np.log(wide)) + abs(np.log(high)))
                    if overlap > best + 1e-12:
                        best, wanted = overlap, [10 + x - width / 2, 20 + y - height / 2, width, height]
    assert found == pytest.approx(wanted)


def test_without_labels_the_box_stays():
    last = np.array([17.0, 30.0, 14.0, 10.0])
    assert np.array_equal(box_tracking._box_of(torch.zeros(4, 4), box_tracking._Square(0, 0, 64), last, (64, 64)), last)


def test_wrong_frames_and_tokens_are_refused(tmp_path):
    one = video(tmp_path, [(20, 20, 16, 16)] * 3)
    with pytest.raises(UsageError, match='a region of 3 px is smaller than a patch of colors: give 4 px or more'):
        follow_box(ColorNetwork(), one, Tracking(size=3))
    Image.new('RGB', (90, 64)).save(one.frames[2])
    with pytest.raises(UsageError, match=r'2\.png is 90x64 px and the first of one 96x64'):
        follow_box(ColorNetwork(), one)
    one.frames[2].write_bytes(b'')
    with pytest.raises(UsageError, match=r'2\.png: the file is empty; unpack the sequence one again'):
        follow_box(ColorNetwork(), one)
    network = ColorNetwork()
    network.std = (0.0, 1.0, 1.0)
    with pytest.raises(UsageError, match='the patch tokens of colors are not finite'):
        follow_box(network, one)


@pytest.mark.parametrize(
    ('setting', 'value'),
    [('region', 0.5), ('size', 0), ('frames', -1), ('neighbors', 0), ('temperature', 0.0)],
)
def test_settings_out_of_range_are_named(setting, value):
    with pytest.raises(UsageError, match=f'tracking.{setting} is {value}'):
        Tracking()._replace(**{setting: value}).check('tracking.')
