"""Scenes with figures: pinned bytes, joints that lie on the figure they belong to, files that the reader takes."""

from __future__ import annotations

import hashlib
import json
import sys
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from mstkit.commands.make_scenes_command import main
from mstkit.datasets.keypoint_annotations import keypoint_paths, read_keypoints
from mstkit.errors import UsageError
from mstkit.scenes.figure_bodies import JOINTS, SKELETON, Body
from mstkit.scenes.figure_files import ensure_figure_scenes
from mstkit.scenes.figure_scenes import Figure, render_figure_scene
from mstkit.scenes.scene_draws import Draws

PINNED = '4a9d89a6cb6cb26c'


@pytest.fixture(scope='module')
def figures() -> list[Figure]:
    return [one for index in range(60) for one in render_figure_scene(0, 'val', index, 64).figures]


def test_the_bytes_are_pinned():
    found = hashlib.sha256()
    for index in range(3):
        scene = render_figure_scene(0, 'train', index, 48)
        found.update(scene.image.tobytes())
        for figure in scene.figures:
            found.update(figure.keypoints.tobytes() + repr((figure.box, figure.area)).encode())
    assert found.hexdigest()[:16] == PINNED


def test_joints_lie_in_the_box_of_their_figure(figures):
    assert 90 < len(figures) < 150  # 1 to 3 in each of 60
    for figure in figures:
        x, y, width, height = figure.box
        assert 0 <= x < x + width <= 64 and 0 <= y < y + height <= 64
        assert 0.1 * width * height < figure.area < 0.9 * width * height
        labeled = figure.keypoints[figure.keypoints[:, 2] > 0, :2]
        assert len(labeled) >= 4
        assert (labeled >= [x - 0.5, y - 0.5]).all() and (labeled <= [x + width + 0.5, y + height + 0.5]).all()
        assert (figure.keypoints[figure.keypoints[:, 2] == 0] == 0).all()
    marks = np.concatenate([figure.keypoints[:, 2] for figure in figures])
    assert set(marks) == {0, 1, 2} and 0.6 < (marks == 2).mean() < 0.9 and 0.01 < (marks == 0).mean() < 0.15


def test_left_and_right_follow_the_view(figures):
    """Seen from behind the left shoulder is on the left of the image, and no nose is seen."""
    at = {name: number for number, name in enumerate(JOINTS)}
    behind = [figure for figure in figures if figure.from_behind]
    assert 0.35 < len(behind) / len(figures) < 0.65
    assert all(figure.keypoints[at['nose'], 2] < 2 for figure in behind)
    front = [figure for figure in figures if not figure.from_behind]
    assert np.mean([figure.keypoints[at['nose'], 2] == 2 for figure in front]) > 0.6
    agree = []
    for figure in figures:
        left, right = figure.keypoints[at['left_shoulder']], figure.keypoints[at['right_shoulder']]
        if left[2] and right[2]:
            agree.append((left[0] < right[0]) == figure.from_behind)
    assert len(agree) > 80 and np.mean(agree) > 0.95  # but for a few that lie on their side


def test_the_figure_in_front_hides_the_other():
    """Of two figures, more joints of the first one are hidden; some are hidden by limbs and objects of their own."""
    hidden = {True: 0, False: 0}
    for index in range(80):
        scene = render_figure_scene(3, 'train', index, 64, figures=2)
        if len(scene.figures) == 2:
            for last, figure in zip((False, True), scene.figures, strict=True):
                hidden[last] += int((figure.keypoints[:, 2] == 1).sum())
    assert hidden[False] > 1.1 * hidden[True] > 0


def test_limbs_have_the_lengths_of_a_body():
    """Joints that a bone joins are as far apart as the bone is long, shorter only where it points to the viewer."""
    for index in range(40):
        body = Body(Draws(0, 'train', index, 9), 0.8, (0.5, 0.5))
        assert set(body.joints) == set(JOINTS)
        for side in ('left', 'right'):
            for joints, lengths in (
                (('shoulder', 'elbow', 'wrist'), (0.18, 0.17)),
                (('hip', 'knee', 'ankle'), (0.235, 0.235)),
            ):
                places = [np.array(body.joints[f'{side}_{joint}']) for joint in joints]
                for (first, second), length in zip(pairwise(places), lengths, strict=True):
                    assert 0.75 <= np.linalg.norm(second - first) / (0.8 * length) <= 1.08 + 1e-9


def test_the_pose_does_not_depend_on_the_size():
    small, large = (render_figure_scene(5, 'train', 2, size).figures for size in (48, 96))
    assert len(small) == len(large)
    for first, second in zip(small, large, strict=True):
        assert np.allclose(first.keypoints[:, :2] * 2, second.keypoints[:, :2], atol=1e-4)


def test_files_are_read_back_and_completed(tmp_path):
    folder = ensure_figure_scenes(tmp_path / 'a', 3, 2, 48)
    for split, count in (('train', 3), ('val', 2)):
        found = read_keypoints(*keypoint_paths(folder, split))
        assert found.kind.names == JOINTS and len(found.kind.flip_pairs) == 6 and found.kind.sigmas[0] == 0.026
        assert [(JOINTS[first], JOINTS[second]) for first, second in found.kind.skeleton] == list(SKELETON)
        scenes = [render_figure_scene(0, split, index, 48) for index in range(count)]
        figures = [figure for scene in scenes for figure in scene.figures]
        assert len(found.instances) == len(figures) and not any(found.left_out.values())
        for instance, figure in zip(found.instances, figures, strict=True):
            assert instance.box == figure.box and instance.area == figure.area and instance.size == (48, 48)
            assert np.abs(instance.keypoints - figure.keypoints).max() <= 0.00051
        for number, scene in enumerate(scenes, start=1):
            assert np.array_equal(np.asarray(Image.open(folder / f'{split}2017' / f'{number:012d}.png')), scene.image)
    before = {path: path.read_bytes() for path in folder.rglob('*.*')}
    (folder / 'train2017' / '000000000002.png').unlink()
    (folder / 'annotations' / 'person_keypoints_val2017.json').unlink()
    ensure_figure_scenes(folder, 3, 2, 48)
    assert {path: path.read_bytes() for path in folder.rglob('*.*')} == before
    assert json.loads((folder / 'figure_scenes.json').read_text())['objects'] == 3


def test_the_command(tmp_path, monkeypatch, capsys):
    words = [str(tmp_path / 'a'), '--figures', '--train', '2', '--val', '1', '--size', '32', '--objects', '1']
    monkeypatch.setattr(sys, 'argv', ['make_scenes.py', *words])
    main()
    assert capsys.readouterr().out.endswith(f'the scenes are in {tmp_path / "a"}\n')
    assert len(read_keypoints(*keypoint_paths(tmp_path / 'a', 'train')).instances) == 2
    monkeypatch.setattr(sys, 'argv', ['make_scenes.py', *words, '--depth'])
    with pytest.raises(SystemExit):
        main()
    assert 'not allowed with argument' in capsys.readouterr().err


def test_folders_that_hold_something_else(tmp_path):
    folder = ensure_figure_scenes(tmp_path / 'a', 1, 1, 32, 1)
    with pytest.raises(UsageError, match='holds other scenes'):
        ensure_figure_scenes(folder, 1, 1, 32, 2)
    with pytest.raises(UsageError, match='the number of figures of a scene is 9'):
        ensure_figure_scenes(tmp_path / 'c', objects=9)
    assert not (tmp_path / 'c').exists()
