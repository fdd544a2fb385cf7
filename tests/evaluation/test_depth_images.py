"""Images with depth: the layout, the formats, what is unknown, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mstkit.datasets.depth_pairs import DepthPair, find_pairs, pairs_of_list, read_depth
from mstkit.errors import UsageError
from mstkit.evaluation.benchmarks.depth_images import read_pairs

MAP = np.array([[0.0, 0.5, 1.25], [2.0, np.nan, 70.0]], np.float32)
KNOWN = np.array([[0.0, 0.5, 1.25], [2.0, 0.0, 70.0]], np.float32)


def write_pair(folder: Path, name: str, image: np.ndarray, depth: np.ndarray, split: str = 'train') -> DepthPair:
    files = [folder / kind / split / f'{name}.png' for kind in ('images', 'annotations')]
    for file, pixels in zip(files, (image, depth), strict=True):
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)
    return DepthPair(*files)


def test_every_format_gives_the_same_meters(tmp_path):
    whole = np.nan_to_num(MAP * 900).round().astype(np.uint16)
    Image.fromarray(whole).save(tmp_path / 'a.png')
    Image.fromarray(whole).save(tmp_path / 'a.tif')
    Image.fromarray(MAP).save(tmp_path / 'b.tif')
    np.save(tmp_path / 'c.npy', MAP.astype(np.float64))
    np.save(tmp_path / 'd.npy', np.where(np.isnan(MAP), np.inf, MAP))
    for name, units in (('a.png', 900), ('a.tif', 900), ('b.tif', None), ('c.npy', None), ('d.npy', 1)):
        found = read_depth(tmp_path / name, units)
        assert found.dtype == np.float32 and np.allclose(found, KNOWN, atol=1e-6), name
    assert np.allclose(read_depth(tmp_path / 'a.png'), KNOWN * 0.9)  # a thousand in a meter


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (np.zeros((4, 4), np.uint8), 'holds 2 axes of uint8: give one channel of 16 bits or of floats'),
        (np.zeros((4, 4, 3), np.uint8), 'holds 3 axes of uint8'),
        (b'no image', 'cannot be read'),
        (b'', 'cannot be read'),
    ],
)
def test_what_is_no_depth_is_refused(tmp_path, content, message):
    file = tmp_path / 'a.png'
    file.write_bytes(content) if isinstance(content, bytes) else Image.fromarray(content).save(file)
    with pytest.raises(UsageError, match=message):
        read_depth(file)


def test_the_middle_square_of_both(tmp_path):
    """The halves of a wide image have other colors and depths; a column at each end is cut off."""
    image = np.zeros((4, 6, 3), np.uint8)
    image[:, 3:] = 200
    depth = np.full((4, 6), 1000, np.uint16)
    depth[:, 3:] = 3000
    depth[:, 0], depth[:, 5], depth[1, 2] = 9000, 9000, 0
    found = read_pairs([write_pair(tmp_path, 'a', image, depth)], 4)
    assert found.images.shape == (1, 3, 4, 4) and found.images.dtype == torch.uint8
    assert found.images[0, :, :, :2].max() == 0 and found.images[0, :, :, 2:].min() == 200
    wanted = torch.tensor([1.0, 1.0, 3.0, 3.0]).repeat(4, 1)
    wanted[1, 1] = 0
    assert torch.equal(found.depth[0], wanted)
    larger = read_pairs([write_pair(tmp_path, 'a', image, depth)], 8)
    assert torch.equal(larger.depth[0], wanted.repeat_interleave(2, 0).repeat_interleave(2, 1))


def test_the_layout(tmp_path):
    pixels, depth = np.zeros((4, 4, 3), np.uint8), np.full((4, 4), 5, np.uint16)
    with pytest.raises(UsageError, match=r'there is no folder .*images/train: depth is read from images/SPLIT and'):
        find_pairs(tmp_path, 'train')
    for name in ('b/2', 'a'):
        write_pair(tmp_path, name, pixels, depth)
    (tmp_path / 'images' / 'train' / 'notes.txt').write_text('no image')
    assert [pair.image.stem for pair in find_pairs(tmp_path, 'train').pairs] == ['a', '2']
    (tmp_path / 'annotations' / 'train' / 'a.png').unlink()
    with pytest.raises(UsageError, match=r'1 of 2 images in .* have no depth map in .*, the first: a '):
        find_pairs(tmp_path, 'train')
    (tmp_path / 'images' / 'val').mkdir()
    (tmp_path / 'annotations' / 'val').mkdir()
    with pytest.raises(UsageError, match='holds no images'):
        find_pairs(tmp_path, 'val')


def test_pairs_that_do_not_fit(tmp_path):
    pixels = np.zeros((4, 6, 3), np.uint8)
    turned = write_pair(tmp_path, 'turned', pixels, np.full((6, 4), 5, np.uint16))
    with pytest.raises(UsageError, match='has 6x4 pixels and its depth map 4x6: they show not the same'):
        read_pairs([turned], 4)
    smaller = write_pair(tmp_path, 'smaller', np.zeros((40, 60, 3), np.uint8), np.full((20, 30), 5, np.uint16))
    assert float(read_pairs([smaller], 8).depth.min()) == pytest.approx(0.005)
    empty = write_pair(tmp_path, 'empty', pixels, np.zeros((4, 6), np.uint16))
    with pytest.raises(UsageError, match='no depth is known in any of 1 maps'):
        read_pairs([empty], 4)
    broken = write_pair(tmp_path, 'broken', pixels, np.full((4, 6), 5, np.uint16))
    broken.image.write_bytes(b'\x89PNG')
    with pytest.raises(UsageError, match='copy it again, or remove it and its depth map'):
        read_pairs([broken], 4)


DRIVE = '2011_09_26_drive_0001_sync'


def write_kitti(root: Path, raw: str = '.', annotated: str = '.') -> list[str]:
    """Three frames of a drive, of which KITTI has depth for the second and third, and for both cameras."""
    names = [f'{number:010d}.png' for number in (4, 5, 6)]
    for camera in ('image_02', 'image_03'):
        images = root / raw / '2011_09_26' / DRIVE / camera / 'data'
        depths = root / annotated / 'train' / DRIVE / 'proj_depth' / 'groundtruth' / camera
        for folder in (images, depths):
            folder.mkdir(parents=True)
        for name in names:
            Image.fromarray(np.zeros((4, 12, 3), np.uint8)).save(images / name)
        for name in names[1:]:
            Image.fromarray(np.full((4, 12), 512, np.uint16)).save(depths / name)
    return names


@pytest.mark.parametrize(('raw', 'annotated'), [('.', '.'), ('raw', 'data_depth_annotated')])
def test_kittis_layout(tmp_path, raw, annotated):
    names = write_kitti(tmp_path, raw, annotated)
    found = find_pairs(tmp_path, 'train')
    assert found.units == 256 and len(found.pairs) == 4
    assert {pair.image.name for pair in found.pairs} == set(names[1:])
    for image, depth in found.pairs:
        assert image.is_file() and depth.is_file() and image.parts[-3] == depth.parts[-2]  # of the same camera
    assert read_pairs(found.pairs, 4, found.units).depth.unique().tolist() == [2.0]
    found.pairs[0].image.unlink()
    with pytest.raises(UsageError, match=r'has no image .*2011_09_26.*: unpack the raw data of KITTI there'):
        find_pairs(tmp_path, 'train')


def test_lists_of_pairs(tmp_path):
    pixels, depth = np.zeros((4, 4, 3), np.uint8), np.full((4, 4), 5, np.uint16)
    one, two = (write_pair(tmp_path, name, pixels, depth) for name in 'ab')
    listed = tmp_path / 'list.txt'
    listed.write_text('/b.png b.png 518.8\n\nc.png None 721.5\na.png a.png\n')
    images, depths = one.image.parent, one.depth.parent
    assert pairs_of_list(listed, images, depths) == ([two, one], 1)
    for text, message in (
        ('a.png\n', "line 1 of .* is 'a.png': give the image and its depth map"),
        ('a.png a.png\na.png z.png\n', r'line 2 of .* names .*annotations/train/z.png, which is not there'),
        ('a.png None\n', 'names no image with a depth map'),
    ):
        listed.write_text(text)
        with pytest.raises(UsageError, match=message):
            pairs_of_list(listed, images, depths)
    with pytest.raises(UsageError, match=r'nothing\.txt cannot be read'):
        pairs_of_list(tmp_path / 'nothing.txt', images, depths)
