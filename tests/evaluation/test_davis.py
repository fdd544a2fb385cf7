from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mstkit.errors import UsageError
from mstkit.evaluation.benchmarks.davis import find_videos, overall, read_annotation, score_video, write_labels
from mstkit.evaluation.benchmarks.propagation import Propagation
from mstkit.evaluation.benchmarks.region_boundary import boundary_accuracy, over_frames, region_similarity
from mstkit.evaluation.benchmarks.video_labels import frame_size, segment_video

from .videos import HEIGHT, WIDTH, ColorNetwork, label_map, save_labels, write_davis


@pytest.fixture
def davis(tmp_path: Path) -> Path:
    return write_davis(tmp_path / 'DAVIS')


def test_layout_is_read(davis):
    going, coming = find_videos(davis)
    assert (going.name, coming.name) == ('going', 'coming')
    assert [path.name for path in going.frames] == [f'{index:05d}.jpg' for index in range(8)]
    assert [path.name for path in going.annotations] == [f'{index:05d}.png' for index in range(8)]
    assert going.scored
    assert [video.name for video in find_videos(davis, names=['coming'])] == ['coming']


def test_split_with_first_annotations_only(davis):
    for path in (davis / 'Annotations' / '480p' / 'going').glob('0000[1-9].png'):
        path.unlink()
    going, coming = find_videos(davis)
    assert not going.scored and coming.scored
    assert len(segment_video(ColorNetwork(), going, shorter=64)) == 8


def test_annotations_keep_their_palette_and_void_is_background(tmp_path):
    labels = label_map(0)
    labels[0, :5] = 255
    save_labels(tmp_path / 'a.png', labels)
    read = read_annotation(tmp_path / 'a.png')
    assert np.array_equal(read.labels, label_map(0))
    write_labels(tmp_path / 'out' / 'b.png', read.labels, read.colors)
    with Image.open(tmp_path / 'out' / 'b.png') as again:
        assert again.mode == 'P'
        assert np.array_equal(np.asarray(again), read.labels)
        assert again.getpalette()[3:9] == [200, 0, 0, 0, 200, 0]
    Image.fromarray(label_map(0)).save(tmp_path / 'gray.png')
    assert len(read_annotation(tmp_path / 'gray.png').colors) == 768


def test_moving_squares_are_followed(davis):
    network = ColorNetwork()
    for video in find_videos(davis):
        labels = segment_video(network, video, shorter=64)
        assert [one.shape for one in labels] == [(HEIGHT, WIDTH)] * 8
        assert labels[0].dtype == labels[-1].dtype == np.uint8
        assert set(np.unique(np.stack(labels))) == {0, 1, 3}
        scores = score_video(labels, video)
        assert set(scores) == {1, 3}
        for one in scores.values():
            assert one.region.mean > 0.75 and one.boundary.mean > 0.6, one
        numbers = overall({video.name: scores})
        assert next(iter(numbers)) == 'J&F'
        # Objects that stay where they were at first are far worse: the score is not one of standing still.
        still = score_video([labels[0]] * 8, video)
        assert overall({video.name: still})['J&F'] < numbers['J&F'] - 30
    assert set(network.seen) == {(1, 3, 32, 32), (1, 3, 64, 128)}


def test_labels_come_from_near_patches_only(davis):
    """With a radius of zero patches, nothing moves."""
    (video,) = find_videos(davis, names=['going'])
    still = segment_video(ColorNetwork(), video, Propagation(radius=0), shorter=64)
    moved = score_video(still, video)
    assert moved[1].region.decay > 0.3


def test_scores_equal_plain_loops(davis):
    (video,) = find_videos(davis, names=['going'])
    generator = np.random.default_rng(1)
    predictions = [np.where(generator.random((HEIGHT, WIDTH)) < 0.1, 0, label_map(index)) for index in range(8)]
    predictions[0] = label_map(0)
    measured = score_video(predictions, video)
    for number in (1, 3):
        inner = range(1, 7)  # the first is given; the challenge leaves the last one out
        region = [region_similarity(predictions[i] == number, label_map(i) == number) for i in inner]
        edge = [boundary_accuracy(predictions[i] == number, label_map(i) == number) for i in inner]
        assert measured[number].region == pytest.approx(over_frames(region))
        assert measured[number].boundary == pytest.approx(over_frames(edge))
        assert measured[number].mean == pytest.approx((np.mean(region) + np.mean(edge)) / 2)
    numbers = overall({'going': measured, 'coming': {1: measured[1]}})
    assert numbers['J_mean'] == pytest.approx(100 * (2 * measured[1].region.mean + measured[3].region.mean) / 3)
    assert numbers['J&F'] == pytest.approx((numbers['J_mean'] + numbers['F_mean']) / 2)


@pytest.mark.parametrize(
    ('width', 'height', 'shorter', 'stride', 'expected'),
    [
        (854, 480, 480, 16, (480, 832)),
        (854, 480, 480, 8, (480, 832)),
        (480, 854, 480, 16, (832, 480)),
        (910, 480, 480, 16, (480, 896)),
        (854, 480, 480, 14, (476, 854)),
        (480, 480, 480, 32, (480, 480)),
        (500, 480, 470, 16, (464, 464)),
    ],
)
def test_frame_sizes_are_those_of_dino(width, height, shorter, stride, expected):
    assert frame_size(width, height, shorter, stride) == expected


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_wrong_layouts_get_one_message(davis, tmp_path):
    cases = [
        (lambda root: remove(root / 'ImageSets'), 'there is no folder .*ImageSets'),
        (lambda root: remove(root / 'JPEGImages' / '480p'), 'there is no folder .*JPEGImages'),
        (lambda root: remove(root / 'Annotations'), 'there is no folder .*Annotations'),
        (lambda root: (root / 'ImageSets/2017/val.txt').rename(root / 'ImageSets/2017/dev.txt'), 'splits here are dev'),
        (lambda root: (root / 'ImageSets/2017/val.txt').write_text('\n'), 'names no sequences'),
        (lambda root: (root / 'ImageSets/2017/val.txt').write_text('other\n'), 'other holds 0 frames'),
        (lambda root: remove(root / 'Annotations/480p/going'), r'has no 00000\.png, the annotation to begin with'),
        (lambda root: remove(root / 'Annotations/480p/coming/00000.png'), r'coming has no 00000\.png'),
        (lambda root: remove(root / 'Annotations/480p/going/00004.png'), r'1 of 8 frames of going .* 00004\.png'),
        (
            lambda root: save_labels(root / 'Annotations/480p/going/00000.png', label_map(0)[:50]),
            '128x50 px and its frame 128x64',
        ),
        (
            lambda root: save_labels(root / 'Annotations/480p/going/00000.png', 0 * label_map(0)),
            'shows no object to follow',
        ),
        (lambda root: Image.new('RGB', (128, 64)).save(root / 'Annotations/480p/going/00000.png'), r'colors \(RGB\)'),
        (lambda root: (root / 'Annotations/480p/going/00000.png').write_bytes(b'x'), 'cannot be read'),
        (lambda root: (root / 'JPEGImages/480p/going/00000.jpg').write_bytes(b'x'), 'frame .* cannot be read'),
    ]
    for number, (damage, message) in enumerate(cases):
        root = tmp_path / str(number)
        shutil.copytree(davis, root)
        damage(root)
        with pytest.raises(UsageError, match=message) as caught:
            find_videos(root)
        assert '\n' not in str(caught.value)
    with pytest.raises(UsageError, match=r"no sequence 'goin'.*Did you mean going"):
        find_videos(davis, names=['goin'])


def test_mistakes_found_on_the_way(davis):
    (video,) = find_videos(davis, names=['going'])
    with pytest.raises(UsageError, match='smaller than a patch of colors: give 4 px'):
        segment_video(ColorNetwork(), video, shorter=3)
    labels = segment_video(ColorNetwork(), video, shorter=64)
    save_labels(video.annotations[3], label_map(3)[:60])
    with pytest.raises(UsageError, match=r'00003\.png is 128x60 px and the first frame of going 128x64'):
        score_video(labels, video)
    Image.new('RGB', (64, 64)).save(video.frames[5])
    with pytest.raises(UsageError, match=r'00005\.jpg is 64x64 px and the first of going 128x64'):
        segment_video(ColorNetwork(), video, shorter=64)
    video.frames[5].write_bytes(b'')
    with pytest.raises(UsageError, match=r'00005\.jpg.*unpack the sequence going again'):
        segment_video(ColorNetwork(), video, shorter=64)
