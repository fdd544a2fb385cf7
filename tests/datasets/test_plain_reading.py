from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from mstkit.datasets.plain_reading import read_images
from mstkit.errors import UsageError

VIEW = [dict(type='CenterView', resize=20, crop=16)]


def fill(folder: Path, count: int = 6) -> Path:
    for number in range(count):
        (folder / str(number % 2)).mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (40, 30), (10 * number, 0, 0)).save(folder / str(number % 2) / f'{number}.png')
    return folder


def reds(images: torch.Tensor) -> list[int]:
    return [int(image[0, 0, 0]) // 10 for image in images]


def test_all_of_them_in_file_order(tmp_path):
    images = read_images(fill(tmp_path), VIEW, 100)
    assert images.images.shape == (6, 3, 16, 16)
    assert images.images.dtype == torch.uint8
    assert reds(images.images) == [0, 2, 4, 1, 3, 5]
    assert images.unreadable == []


def test_some_from_every_sub_folder(tmp_path):
    assert reds(read_images(fill(tmp_path), VIEW, 2).images) == [0, 1]


def test_unreadable_files_are_named_and_not_replaced(tmp_path):
    fill(tmp_path)
    (tmp_path / '0' / '2.png').write_bytes(b'no image')
    images = read_images(tmp_path, VIEW, 100)
    assert reds(images.images) == [0, 4, 1, 3, 5]
    (said,) = images.unreadable
    assert said.startswith('0/2.png (') and 'format' in said


def test_nothing_to_read(tmp_path):
    with pytest.raises(UsageError, match='does not exist'):
        read_images(tmp_path / 'none', VIEW, 3)
    (tmp_path / 'notes.txt').write_text('')
    with pytest.raises(UsageError, match=r'holds no images.*1 files that are no images'):
        read_images(tmp_path, VIEW, 3)
    (tmp_path / 'a.jpg').write_bytes(b'')
    with pytest.raises(UsageError, match=r'of 1 images none can be read, the first is a.jpg \(the file is empty\)'):
        read_images(tmp_path, VIEW, 3)
