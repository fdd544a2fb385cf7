"""Videos of moving objects: pinned bytes, and boxes that fit what moves; their files are what tracking reads."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from PIL import Image

from mstkit.errors import UsageError
from mstkit.evaluation.benchmarks.tracking_files import GOT10K, find_tracked
from mstkit.scenes.video_files import ensure_videos
from mstkit.scenes.video_scenes import render_video

PINNED = '01e327510b59dc39'


def test_the_bytes_are_pinned():
    found = hashlib.sha256()
    for index in range(2):
        video = render_video(0, 'train', index, 48, 3)
        found.update(video.frames.tobytes() + video.boxes.tobytes() + video.seen.tobytes())
    assert found.hexdigest()[:16] == PINNED


def test_boxes_are_around_what_moves():
    """Of a single object: what changes from one frame to another lies in its two boxes, and reaches to their sides."""
    for index in range(8):
        video = render_video(0, 'val', index, 64, 2, objects=1)
        changed = (video.frames[0].astype(int) != video.frames[1]).any(axis=2)
        inside = np.zeros_like(changed)
        for left, top, width, height in video.boxes:
            rows, columns = (
                slice(int(np.floor(low)), int(np.ceil(low + side))) for low, side in ((top, height), (left, width))
            )
            # An edge is blended over about a pixel.
            inside[max(rows.start - 1, 0) : rows.stop + 1, max(columns.start - 1, 0) : columns.stop + 1] = True
            own = changed[rows, columns]
            assert all(side.any() for side in (own[:2], own[-2:], own[:, :2], own[:, -2:])), index
        assert not (changed & ~inside).any()
        assert (video.seen == 1).all()


def test_the_target_is_seen_first_then_moves_and_is_sometimes_hidden():
    videos = [render_video(0, 'val', index, 64, 9) for index in range(20)]
    assert all(video.seen[0] > 0.9 for video in videos)
    assert sum(bool((video.seen < 0.6).any()) for video in videos) >= 8
    middles = np.array([video.boxes[:, :2] + video.boxes[:, 2:] / 2 for video in videos])
    steps = np.abs(np.diff(middles, axis=1)).max()
    assert steps < 16, 'paths are smooth'
    assert np.median(np.abs(middles[:, -1] - middles[:, 0]).max(axis=1)) > 15
    sizes = np.array([video.boxes[:, 2:].prod(axis=1) for video in videos]) ** 0.5
    assert (
        np.abs(np.diff(np.log(sizes), axis=1)).max() < 0.25 and np.abs(np.log(sizes[:, -1] / sizes[:, 0])).max() > 0.2
    )
    for video in videos:
        assert (video.boxes[:, :2] >= 0).all() and (video.boxes[:, :2] + video.boxes[:, 2:] <= 64).all()


def test_another_size_and_more_frames_are_the_same_video():
    small, large = render_video(1, 'val', 3, 48, 3), render_video(1, 'val', 3, 96, 5)
    assert np.abs(large.boxes[::2] / 2 - small.boxes).max() <= 0.75
    assert np.abs(large.seen[::2] - small.seen).max() < 0.1


def test_files_are_read_back_and_completed(tmp_path):
    folder = ensure_videos(tmp_path / 'a', 1, 2, 32, 3)
    videos = find_tracked(folder)
    assert [video.name for video in videos] == ['val_000000', 'val_000001'] and videos[0].layout == GOT10K
    assert [video.name for video in find_tracked(folder, 'train')] == ['train_000000']
    for index, found in enumerate(videos):
        video = render_video(0, 'val', index, 32, 3)
        assert np.array_equal(np.stack([np.asarray(Image.open(path)) for path in found.frames]), video.frames)
        assert np.array_equal(found.boxes, video.boxes) and found.visible.tolist() == (video.seen > 0).tolist()
    before = {path: path.read_bytes() for path in folder.rglob('*.*')}
    for file in videos[1].frames[1], videos[1].frames[0].parent / 'groundtruth.txt':  # an interrupted run
        file.unlink()
    ensure_videos(folder, 1, 2, 32, 3)
    assert {path: path.read_bytes() for path in folder.rglob('*.*')} == before
    assert json.loads((folder / 'video_scenes.json').read_text())['objects'] == 4
    with pytest.raises(UsageError, match='holds other scenes'):
        ensure_videos(folder, 1, 2, 48, 3)
    with pytest.raises(UsageError, match='the number of frames of a video is 1'):
        ensure_videos(tmp_path / 'c', frames=1)
    assert not (tmp_path / 'c').exists()


@pytest.mark.parametrize(
    ('share', 'cover'), [(0.0, 0), (0.01, 1), (0.15, 1), (0.16, 2), (0.5, 4), (0.9, 6), (0.95, 7), (1.0, 8)]
)
def test_cover_is_in_steps_of_15_percent(tmp_path, monkeypatch, share, cover):
    video = render_video(0, 'val', 0, 32, 2)._replace(seen=np.array([1.0, share]))
    monkeypatch.setattr('mstkit.scenes.video_files.render_video', lambda *_: video)
    folder = ensure_videos(tmp_path / 'a', 0, 1, 32, 2)
    assert (folder / 'val' / 'val_000000' / 'cover.label').read_text() == f'8\n{cover}\n'
    assert (folder / 'val' / 'val_000000' / 'absence.label').read_text() == f'0\n{int(share == 0)}\n'
