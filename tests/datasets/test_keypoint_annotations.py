"""Annotations of keypoints in COCO's format: what is read, what is left out, and one message for each mistake."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.cocoeval import Params

from mstkit.datasets.keypoint_annotations import keypoint_paths, read_keypoints
from mstkit.datasets.keypoint_kind import COCO_SIGMAS, OTHER_SIGMA, flip_pairs_of, sigmas_of
from mstkit.errors import UsageError

SIZE = (40, 30)
NAMES = ['nose', 'left_hip', 'right_hip']


def annotation(number: int, image: int, keypoints: list[float], **more: Any) -> dict[str, Any]:
    fields = dict(id=number, image_id=image, category_id=1, bbox=[2, 3, 20.5, 10], area=120.5, iscrowd=0)
    return fields | dict(keypoints=keypoints, num_keypoints=3) | more


def content() -> dict[str, Any]:
    """Two instances; a crowd, one without labels, one with a box of no width, a category without keypoints."""
    return dict(
        images=[dict(id=i, file_name=f'{i}.png', width=SIZE[0], height=SIZE[1]) for i in (7, 3)],
        categories=[
            dict(id=1, name='person', keypoints=list(NAMES), skeleton=[[1, 2], [3, 1]]),
            dict(id=5, name='dog'),
        ],
        annotations=[
            annotation(11, 7, [5.25, 6, 2, 9, 9, 1, 99, 99, 0]),
            annotation(12, 7, [0] * 9, iscrowd=1),
            annotation(13, 3, [0] * 9),
            annotation(14, 3, [1, 2, 2, 3, 4, 2, 5, 6, 2], bbox=[2, 3, 0, 10]),
            annotation(15, 3, [1, 2, 2, -3, 4, 2, 5, 31, 2]),
            dict(id=16, image_id=3, category_id=5, bbox=[1, 1, 5, 5], area=25, iscrowd=0),
        ],
    )


def write(root: Path, what: Any = None, split: str = 'val') -> tuple[Path, Path]:
    path, folder = keypoint_paths(root, split)
    path.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(exist_ok=True)
    for number in (7, 3):
        Image.fromarray(np.full((SIZE[1], SIZE[0], 3), number, np.uint8)).save(folder / f'{number}.png')
    path.write_text(what if isinstance(what, str) else json.dumps(content() if what is None else what))
    return path, folder


def test_what_is_read(tmp_path):
    path, folder = write(tmp_path)
    assert (path, folder) == (tmp_path / 'annotations/person_keypoints_val2017.json', tmp_path / 'val2017')
    found = read_keypoints(path, folder)
    assert found.kind == (1, 'person', tuple(NAMES), ((0, 1), (2, 0)), ((1, 2),), (0.026, 0.107, 0.107))
    assert [one.id for one in found.instances] == [11, 15]
    first = found.instances[0]
    assert first.image == folder / '7.png' and first.image_id == 7 and first.size == SIZE
    assert first.box == (2.0, 3.0, 20.5, 10.0) and first.area == 120.5
    assert first.keypoints.dtype == np.float32
    assert first.keypoints.tolist() == [[5.25, 6, 2], [9, 9, 1], [0, 0, 0]]  # what is not labeled has no place
    assert found.left_out == {
        'of other categories': 1,
        'of crowds': 1,
        'without a labeled keypoint': 1,
        'with a box below 1 px': 1,
    }
    assert found.path == path


def test_what_pycocotools_gets(tmp_path):
    """All annotations of the category; those that are left out count as ignored, which have no keypoints."""
    found = read_keypoints(*write(tmp_path)).content
    assert [entry['name'] for entry in found['categories']] == ['person']
    assert [(entry['id'], entry['num_keypoints']) for entry in found['annotations']] == [
        (11, 2), (12, 0), (13, 0), (14, 0), (15, 3),
    ]  # fmt: skip
    assert len(found['images']) == 2


def test_pairs_and_sigmas():
    assert flip_pairs_of(list(COCO_SIGMAS)) == ((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16))
    assert flip_pairs_of(['Right knee', 'neck', 'Left knee', 'front_left_paw', 'front_right_paw', 'leftover']) == (
        (0, 2), (3, 4),
    )  # fmt: skip
    assert np.allclose(list(COCO_SIGMAS.values()), Params('keypoints').kpt_oks_sigmas)
    assert sigmas_of(['left_hip', 'nose']) == (0.107, 0.026)
    assert sigmas_of(['left_hip', 'beak']) == (OTHER_SIGMA, OTHER_SIGMA)


def changed(**fields: Any) -> dict[str, Any]:
    """The file with other fields of the first annotation."""
    given = content()
    given['annotations'][0] |= fields
    return given


def of_category(**fields: Any) -> dict[str, Any]:
    given = content()
    given['categories'][0] |= fields
    return given


def of_second_category(**fields: Any) -> dict[str, Any]:
    given = content()
    given['categories'][1] |= fields
    return given


def without(name: str) -> dict[str, Any]:
    given = content()
    del given['annotations'][0][name]
    return given


def image(**fields: Any) -> dict[str, Any]:
    given = content()
    given['images'][0] |= fields
    return given


GOOD = [5, 6, 2, 9, 9, 1, 0, 0, 0]


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        (of_category(keypoints=[]), r"no category of .* has keypoints \(its categories are 'person', 'dog'\)"),
        (of_second_category(keypoints=['tail']), r"2 categories of .* have keypoints \('person', 'dog'\)"),
        (of_category(keypoints=['a', 'b', 'A']), "'person' has two keypoints called 'a'"),
        (of_category(keypoints=['a', 3, 'b']), "the keypoints .*'a', 3, 'b'.*give a list of their names"),
        (of_category(keypoints='nose'), "the keypoints 'nose': give a list"),
        (of_category(skeleton=[[1, 2], [0, 1]]), r'skeleton \[1, 2\], \[0, 1\]: give pairs .* from 1 to 3'),
        (of_category(skeleton=5), 'the skeleton 5'),
        (changed(keypoints=GOOD[:-1]), 'annotation 11 has as keypoints 8 numbers, but its category has 3: give 9'),
        (changed(keypoints=None), 'annotation 11 has as keypoints None'),
        (without('keypoints'), 'annotation 11 has as keypoints None'),
        (changed(keypoints=[*GOOD[:-1], '0']), "annotation 11 has '0' among its keypoints: give numbers"),
        (changed(keypoints=[True, *GOOD[1:]]), 'annotation 11 has True among its keypoints'),
        (changed(keypoints=[float('nan'), *GOOD[1:]]), r'the keypoint 1 at \(nan, 6, 2\): give finite numbers'),
        (changed(keypoints=[*GOOD[:4], 10**400, *GOOD[5:]]), 'the keypoint 2 at .*: give finite numbers'),
        (changed(keypoints=[*GOOD[:5], 3, 0, 0, 0]), r'the keypoint 2 as \(9, 9, 3\): its v has to be 0 .*, 1 .* or 2'),
        (changed(keypoints=[*GOOD[:5], 0.5, 0, 0, 0]), r'as \(9, 9, 0.5\): its v has to be'),
        (changed(keypoints=[81, *GOOD[1:]]), r'the keypoint 1 at \(81, 6\), far outside of its image of 40x30 px'),
        (changed(keypoints=[1, -31, *GOOD[2:]]), r'the keypoint 1 at \(1, -31\), far outside'),
        (changed(bbox=[2, 3, 100, 10]), r'annotation 11 has the box \[2, 3, 100, 10\], far outside .* 40x30 px'),
        (changed(area=0), 'annotation 11 has the area 0, by which OKS divides'),
        (changed(area=float('nan')), 'the area nan'),
        (changed(bbox=[1, 2, float('inf'), 3]), r'bbox \[1, 2, inf, 3\]'),
        (changed(id='a'), "annotations.0. .* has id 'a'"),
        (changed(id=15), 'annotations has the id 15 more than once'),
        (changed(image_id=8), 'annotation 11 with image_id 8'),
        (changed(category_id=8), 'annotation 11 with category_id 8'),
        (image(width=41), r'7\.png: it is read as 40x30 px, and annotated as 41x30 px. Keypoints would lie elsewhere'),
        (image(width=0), r'image 7 \(7.png\) has the width and height \(0, 30\)'),
        (image(width=float('nan')), 'has the width and height .nan, 30.'),
        (image(file_name='8.png'), r'1 of the 2 images in .* are not in .*val2017: 8.png. Give .* train2017'),
        (image(file_name='http://x/7.png'), '1 of the 2 images in .* are named by a URL'),
        (image(id=3), 'images has the id 3 more than once'),
        ('{"images": [', 'not a complete JSON file'),
        ('[]', 'holds a list .* annotation file for keypoints in COCO’s format'),
        (dict(images=[]), 'has no categories and no annotations .* such as person_keypoints_train2017.json'),
        (content() | dict(images=[]), 'the list of images'),
        (content() | dict(annotations=[]), 'no annotation .* is left .*: there is none'),
        (content() | dict(annotations=content()['annotations'][1:3]), '1 of crowds, 1 without a labeled keypoint'),
    ],
)  # fmt: skip
def test_mistakes(tmp_path, given, message):
    with pytest.raises(UsageError, match=message) as caught:
        read_keypoints(*write(tmp_path, given))
    assert '\n' not in str(caught.value)


def test_missing_files(tmp_path):
    path, folder = keypoint_paths(tmp_path / 'none', 'train')
    with pytest.raises(UsageError, match=r'no annotation file .*: the folder .* does not exist. Give a folder'):
        read_keypoints(path, folder)
    path, folder = write(tmp_path)
    with pytest.raises(UsageError, match=r'beside it lie person_keypoints_val2017.json.*Did you mean'):
        read_keypoints(path.with_name('person_keypoints_train2017.json'), folder)
    with pytest.raises(UsageError, match=r'the folder of images .*train2017 does not exist, which .*val2017\.json'):
        read_keypoints(path, tmp_path / 'train2017')


def test_damaged_and_turned_images(tmp_path):
    path, folder = write(tmp_path)
    (folder / '7.png').write_bytes(b'')
    with pytest.raises(UsageError, match=r'7\.png, of the data .* cannot be read \(the file is empty\)'):
        read_keypoints(path, folder)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((SIZE[1], SIZE[0], 3), np.uint8)).save(folder / '7.png', exif=exif)
    with pytest.raises(UsageError, match='orientation in their EXIF data') as caught:
        read_keypoints(path, folder)
    assert 'LoadImageFromFile' not in str(caught.value)  # there is no pipeline in which it could be written
