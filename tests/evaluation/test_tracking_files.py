"""Videos with boxes are read in the layouts of OTB and GOT-10k; what is wrong with them gets one sentence."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from mstkit.errors import UsageError
from mstkit.evaluation.benchmarks import tracking_files
from mstkit.evaluation.benchmarks.tracking_files import GOT10K, OTB, find_tracked, read_boxes, write_boxes

from .videos import box, write_got10k, write_otb


@pytest.mark.parametrize('between', [',', '\t', ' ', ', '])
def test_otb_counts_from_one_and_a_video_may_have_two_targets(tmp_path, between):
    videos = find_tracked(write_otb(tmp_path / 'otb', 4, between))
    assert [video.name for video in videos] == ['Going', 'Pair.1', 'Pair.2']
    for video, number in zip(videos, (1, 1, 3), strict=True):
        assert video.layout == OTB and video.size == (128, 64) and video.scored and video.visible.all()
        assert [path.name for path in video.frames] == ['0001.jpg', '0002.jpg', '0003.jpg', '0004.jpg']
        assert video.boxes.tolist() == [list(box(index, number)) for index in range(4)]


def test_several_targets_and_empty_files_are_said(tmp_path, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(tracking_files, 'print_log', lambda message, **_: said.append(message))
    root = write_otb(tmp_path / 'otb', 3)
    find_tracked(root)
    assert said == ['Pair has 2 targets, each of which is followed by itself']
    (root / 'Pair' / 'groundtruth_rect.1.txt').write_text('\n')
    assert [video.name for video in find_tracked(root)] == ['Going', 'Pair.2']
    assert said[1:] == [f'{root / "Pair" / "groundtruth_rect.1.txt"} is empty and left out']
    (root / 'Pair' / 'groundtruth_rect.2.txt').write_text('')
    with pytest.raises(UsageError, match='Pair has no boxes'):
        find_tracked(root)


def test_the_videos_of_otb_that_begin_later(tmp_path):
    """David has 770 frames and its boxes are of those from 300 on; another video with too few boxes is a mistake."""
    root = write_otb(tmp_path / 'otb', 2)
    shutil.rmtree(root / 'Pair')
    (root / 'Going').rename(root / 'David')
    first, _ = sorted((root / 'David' / 'img').iterdir())
    for number in range(1, 304):
        if number > 2:
            (root / 'David' / 'img' / f'{number:04d}.jpg').hardlink_to(first)
    [video] = find_tracked(root)
    assert [path.name for path in video.frames] == ['0300.jpg', '0301.jpg']
    (root / 'David').rename(root / 'Other')
    with pytest.raises(UsageError, match=r'groundtruth_rect\.txt has 2 lines and .*img 303 frames'):
        find_tracked(root)


def test_got10k_with_its_splits_and_labels(tmp_path):
    root = write_got10k(tmp_path / 'got', 5)
    write_got10k(root, 3, 'test')
    going, coming = find_tracked(root)
    assert (going.name, going.layout, going.boxes[2].tolist()) == ('going', GOT10K, list(box(2)))
    assert coming.boxes[4].tolist() == list(box(4, 3)) and coming.visible.all()
    for video in find_tracked(root, 'test'):
        assert not video.scored and video.boxes.shape == (1, 4) and len(video.frames) == 3
    assert [video.name for video in find_tracked(root, None, ['coming'])] == ['coming']
    (root / 'val' / 'going' / 'absence.label').write_text('0\n1\n0\n0\n0\n')
    (root / 'val' / 'going' / 'cover.label').write_text('8\n8\n0\n4\n1\n')
    assert find_tracked(root)[0].visible.tolist() == [True, False, False, True, True]
    (root / 'val' / 'list.txt').unlink()
    assert [video.name for video in find_tracked(root)] == ['coming', 'going']


def test_frames_without_the_target_are_not_visible(tmp_path):
    root = write_got10k(tmp_path / 'got', 5)
    truth = root / 'val' / 'going' / 'groundtruth.txt'
    lines = truth.read_text().splitlines()
    lines[1], lines[2], lines[3] = 'NaN,NaN,NaN,NaN', '0,0,0,0', '3,3,10,0'
    truth.write_text('\n'.join(lines))
    assert find_tracked(root)[0].visible.tolist() == [True, False, False, False, True]
    truth.write_text('\n'.join([lines[0], *lines[1:4], lines[3]]))
    with pytest.raises(UsageError, match='is in no frame after the first: leave going out'):
        find_tracked(root)


@pytest.mark.parametrize('layout', [OTB, GOT10K])
def test_boxes_are_written_as_they_are_read(tmp_path, layout):
    boxes = np.array([[0.5, 2.25, 10.0, 4.125], [-3.0, 0.0, 7.0, 9.0]])
    write_boxes(tmp_path / 'boxes.txt', boxes, layout)
    shift = 1.0 if layout == OTB else 0.0
    assert read_boxes(tmp_path / 'boxes.txt').tolist() == (boxes + np.array([shift, shift, 0, 0])).tolist()


def change(file: str, content: str | bytes | None):
    """Writes a file below the folder, or removes what is there."""

    def apply(root):
        path = root / file
        if content is not None:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()

    return apply


GOING = 'val/going/groundtruth.txt'
MISTAKES = {
    'a line of three': (change(GOING, '1,2,3,4\n1,2,3\n1,2,3,4\n'), r"line 2 of .*groundtruth\.txt is '1,2,3'"),
    'a word': (change(GOING, '1,2,3,4\n1,2,3,4\n1,2,3,wide\n'), "line 3 of .*'1,2,3,wide': it should be the four"),
    'too many lines': (change(GOING, '1,2,3,4\n' * 4), r'has 4 lines and .*going 3 frames'),
    'no lines': (change(GOING, ''), 'is empty'),
    'no text': (change(GOING, b'\xff\xfe\x00'), r'cannot be read \(it is no text\)'),
    'no boxes': (change(GOING, None), r'groundtruth\.txt cannot be read'),
    'a first box outside': (
        change(GOING, '500,2,3,4\n' * 3),
        r'is 500\.0000,2\.0000.* nothing in a frame of 128x64 px',
    ),
    'no first box': (change(GOING, 'nan,nan,nan,nan\n' * 3), 'nothing to follow'),
    'a listed video': (change('val/coming', None), '1 of 2 videos that .* names are not there, the first: coming'),
    'an empty list': (change('val/list.txt', ' \n'), r'list\.txt names no videos'),
    'labels': (change('val/going/cover.label', '8\n8\n'), r'cover\.label has 2 lines and .*going 3 frames'),
    'a word for a label': (change('val/going/absence.label', '0\nno\n0\n'), 'line 2 of .*it should be a number'),
    'one frame': (change('val/going/00000002.jpg', None), 'has 3 lines and .* 2 frames'),
    'a broken frame': (change('val/going/00000001.jpg', b'GIF'), r'the frame .*00000001\.jpg cannot be read'),
}


@pytest.mark.parametrize('mistake', MISTAKES)
def test_mistakes_are_found_before_any_work(tmp_path, mistake):
    root = write_got10k(tmp_path / 'got', 3)
    make, said = MISTAKES[mistake]
    make(root)
    with pytest.raises(UsageError, match=said):
        find_tracked(root)


def test_a_folder_of_another_layout_is_named(tmp_path):
    with pytest.raises(UsageError, match=r'there is no folder .*none'):
        find_tracked(tmp_path / 'none')
    with pytest.raises(UsageError, match='has neither that of OTB'):
        find_tracked(tmp_path)
    write_otb(tmp_path / 'both', 2)
    with pytest.raises(UsageError, match="has the layout of OTB, without splits: give none instead of 'val'"):
        find_tracked(tmp_path / 'both', 'val')
    with pytest.raises(UsageError, match=r"has no video 'Pair'\. Did you mean Pair\.\d"):
        find_tracked(tmp_path / 'both', None, ['Pair'])
    write_got10k(tmp_path / 'both', 2)
    with pytest.raises(UsageError, match='has both that of OTB'):
        find_tracked(tmp_path / 'both')
    write_got10k(tmp_path / 'got', 2)
    with pytest.raises(UsageError, match="has no split 'test': the folders here are val"):
        find_tracked(tmp_path / 'got', 'test')
