"""Annotations and images that do not agree are found before a training, in one sentence."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from mstkit.datasets import image_headers
from mstkit.datasets.image_head import Head, read_head
from mstkit.datasets.image_headers import compare_sizes
from mstkit.downstream import coco_folder, label_checks, label_maps
from mstkit.downstream.run_lengths import fault_of
from mstkit.errors import UsageError

from . import test_coco_folder, test_label_maps
from .toy import SIZE, coco_content, crowd_mask, rle, write_coco, write_image, write_labels

AS_STORED = dict(type='LoadImageFromFile', color_type='color_ignore_orientation')


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The warnings."""
    lines: list[str] = []

    def note(text: str, logger: str, level: int = logging.INFO) -> None:
        if level >= logging.WARNING:
            lines.append(text)

    for module in (coco_folder, label_checks, image_headers):
        monkeypatch.setattr(module, 'print_log', note)
    return lines


def write_turned(path: Path, orientation: int, size: tuple[int, int] = SIZE) -> None:
    """An image that is stored in this size and asks to be turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.full((size[1], size[0], 3), 90, np.uint8)).save(path, exif=exif)


def jpeg_content(**sizes: tuple[int, int]) -> dict[str, Any]:
    """The toy annotations for images in JPEG, some of them listed with another size, and without a crowd."""
    content = coco_content()
    content['annotations'] = [entry for entry in content['annotations'] if not entry['iscrowd']]
    for image in content['images']:
        image['file_name'] = f'{image["id"]}.jpg'
        image['width'], image['height'] = sizes.get(f'i{image["id"]}', SIZE)
    return content


def write_jpegs(root: Path, content: dict[str, Any]) -> Path:
    for image in content['images']:
        write_image(root / 'images' / image['file_name'])
    write_coco(root, content)
    return root / 'images'


def coco(root: Path, **changes: Any) -> Any:
    return test_coco_folder.build(root, **changes)


def test_images_that_were_resized_after_they_were_annotated(tmp_path):
    write_coco(tmp_path)
    write_image(tmp_path / 'images' / 'sub' / '3.png', (20, 15))
    for test_mode in (False, True):
        with pytest.raises(UsageError) as caught:
            coco(tmp_path, test_mode=test_mode)
        said = str(caught.value)
        assert said.startswith('1 of the 3 images are of another size than ') and '\n' not in said
        assert (
            'sub/3.png: it is read as 20x15 px, and annotated as 40x30 px. Boxes and masks would lie elsewhere' in said
        )


def test_images_that_exif_turns(tmp_path, said):
    """Boxes of the image as it is stored lie elsewhere in the one that is read; others are right."""
    images = write_jpegs(tmp_path, jpeg_content())
    write_turned(images / '3.jpg', 6)
    with pytest.raises(
        UsageError, match=r'^1 of .* orientation in their EXIF data .*3\.jpg: it is read as 30x40 px, and ann'
    ):
        coco(tmp_path)
    stored = coco(tmp_path, pipeline=[AS_STORED, *test_coco_folder.PIPELINE[1:]])
    assert stored[1]['inputs'].shape == (3, SIZE[1], SIZE[0])
    write_coco(tmp_path, jpeg_content(i3=(30, 40)))
    assert coco(tmp_path)[1]['inputs'].shape == (3, SIZE[0], SIZE[1])
    assert not any('EXIF' in line for line in said)
    with pytest.raises(
        UsageError, match=r'are of another size .*3\.jpg: it is read as 40x30 px, and annotated as 30x40'
    ):
        coco(tmp_path, pipeline=[AS_STORED, *test_coco_folder.PIPELINE[1:]])


def test_a_image_that_is_upside_down_is_said(tmp_path, said):
    write_turned(write_jpegs(tmp_path, jpeg_content()) / '9.jpg', 3)
    coco(tmp_path)
    line = said[0]
    assert line.startswith('1 of the 3 images are turned or mirrored') and '9.jpg' in line and 'color_ignore' in line


def test_of_a_large_data_set_the_rest_is_found_on_the_way(tmp_path, monkeypatch):
    write_coco(tmp_path)
    write_image(tmp_path / 'images' / 'sub' / '9.png', (41, 30))
    monkeypatch.setattr(image_headers, 'MOST', 2)
    dataset = coco(tmp_path)
    assert dataset[0]['inputs'].shape == (3, SIZE[1], SIZE[0])
    with pytest.raises(UsageError, match=r'9\.png is 41x30 px as it is read, and 40x30 px in its annotations'):
        dataset[2]


def test_heads(tmp_path):
    write_turned(tmp_path / 'a.jpg', 8, (12, 9))
    head = read_head(tmp_path / 'a.jpg')
    assert head == Head(12, 9, 8) and head.size(True) == (9, 12) and head.size(False) == (12, 9)
    (tmp_path / 'empty.jpg').touch()
    sizes = compare_sizes([str(tmp_path / name) for name in ('a.jpg', 'empty.jpg', 'none.jpg')], [(9, 12)] * 3)
    assert list(sizes.unreadable.values()) == ['the file is empty', 'there is no such file'] and not sizes.other


def mask_of(counts: Any) -> Callable[[dict], None]:
    def change(content: dict) -> None:
        content['annotations'][1]['segmentation']['counts'] = counts

    return change


TEXT = coco_mask.encode(np.asfortranarray(crowd_mask()))['counts'].decode()
BROKEN_MASKS = [
    (mask_of([5, 5]), 'broken, its counts are of 10 pixels and not of 30 x 40 = 1200'),
    (mask_of([1300, -100]), 'broken, its counts are not all whole numbers from 0'),
    (mask_of(['a', 3]), 'broken, its counts are not all whole numbers from 0'),
    (mask_of(TEXT[:-1]), 'broken, its counts are'),
    (mask_of(TEXT + '~'), 'broken, its counts are not a valid compressed text'),
]


@pytest.mark.parametrize('index', range(len(BROKEN_MASKS)))
def test_broken_run_lengths(tmp_path, index):
    change, message = BROKEN_MASKS[index]
    content = coco_content()
    change(content)
    write_coco(tmp_path, content)
    with pytest.raises(UsageError) as caught:
        coco(tmp_path)
    assert f'the run-length mask of annotation 12 is {message}' in str(caught.value)


def test_run_lengths_that_are_whole():
    generator = np.random.default_rng(0)
    for _ in range(50):
        height, width = generator.integers(1, 60, 2).tolist()
        mask = (generator.random((height, width)) < generator.random() ** 2).astype(np.uint8)
        compressed = coco_mask.encode(np.asfortranarray(mask))['counts'].decode()
        assert fault_of(compressed, height, width) is None and fault_of(rle(mask)['counts'], height, width) is None
        assert fault_of(compressed, height, width + 1) is not None


def test_a_category_without_annotations_is_named(tmp_path, said):
    content = coco_content()
    content['annotations'] = [entry for entry in content['annotations'] if entry['category_id'] != 4]
    write_coco(tmp_path, content)
    coco(tmp_path)
    (line,) = said
    assert line.startswith('1 of the 3 classes of ') and line.endswith('cannot be learned: cat.')
    coco(tmp_path, test_mode=True)
    assert len([line for line in said if 'cannot be learned' in line]) == 1


def test_categories_of_a_validation_that_are_not_trained_are_named(tmp_path, said):
    """Those without an annotation too."""
    content = coco_content()
    content['categories'].append(dict(id=99, name='zebra'))
    content['categories'].sort(key=lambda category: category['id'])
    write_coco(tmp_path, content)
    coco(tmp_path, test_mode=True, metainfo=dict(classes=('cat', 'dog', 'tree')))
    (line,) = said
    assert '1 of its 4 categories (zebra), with 0 of 4 annotations, are not evaluated' in line


def write_masks(root: Path, *values: tuple[int, ...]) -> Path:
    for index, ids in enumerate(values):
        write_image(root / 'images' / 'train' / f'{index}.png')
        write_labels(root / 'labels' / 'train' / f'{index}.png', test_label_maps.labels(*ids))
    return root


def masks(root: Path, **changes: Any) -> Any:
    return test_label_maps.build('LabelMapFolder', root, **changes)


def test_masks_that_are_drawn_in_0_and_255(tmp_path, monkeypatch):
    write_masks(tmp_path, (255, 255), (0,), (255,))
    with pytest.raises(UsageError) as caught:
        masks(tmp_path, num_classes=2)
    said = str(caught.value)
    assert (
        said.startswith(f'the 3 label maps in {tmp_path / "labels" / "train"} hold only the class ')
        and '\n' not in said
    )
    assert "'class0' of 2, and the id 255, which is ignored, on 0.083 % of their pixels" in said
    assert 'written as 0 and 1' in said
    with pytest.raises(UsageError, match='hold no class of 2'):
        masks(tmp_path, num_classes=2, reduce_zero_label=True)
    masks(tmp_path, num_classes=1)
    # Nothing is refused for what a part of the label maps lacks.
    monkeypatch.setattr(label_maps, '_SURVEYED_AT_START', 1)
    write_masks(tmp_path, (255, 255), (0,), (1,))
    masks(tmp_path, num_classes=2)


def test_classes_that_no_label_map_has_are_named(tmp_path, said):
    write_masks(tmp_path, (0, 2), (255, 0))
    masks(tmp_path, num_classes=4, metainfo=dict(classes=['sky', 'sea', 'sand', 'salt']))
    (line,) = said
    assert line.startswith('2 of the 4 classes occur nowhere in the 2 label maps in ') and line.endswith(': sea, salt.')
    masks(tmp_path, num_classes=3, test_mode=True)
    assert len(said) == 1


def test_images_that_exif_turns_and_label_maps_that_do_not(tmp_path):
    write_image(tmp_path / 'images' / 'train' / 'a.jpg')
    write_labels(tmp_path / 'labels' / 'train' / 'a.png', test_label_maps.labels(0, 1))
    write_turned(tmp_path / 'images' / 'train' / 'a.jpg', 6)
    with pytest.raises(UsageError, match='rotated by the orientation in their EXIF data'):
        masks(tmp_path, num_classes=2)
    dataset = masks(tmp_path, num_classes=2, pipeline=[AS_STORED, *test_label_maps.PIPELINE[1:]])
    assert dataset[0]['inputs'].shape == (3, SIZE[1], SIZE[0])


def test_a_truncated_annotation_file_of_masks_is_no_list(tmp_path):
    """Compressed counts are text; bytes written as a list of characters are none."""
    content = json.loads(json.dumps(coco_content()))
    content['annotations'][1]['segmentation']['counts'] = list(TEXT)
    write_coco(tmp_path, content)
    with pytest.raises(UsageError, match='not all whole numbers'):
        coco(tmp_path)
