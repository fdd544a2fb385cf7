"""Images of more than 8 bits, of other bands than three and of no format at all: the right pixels, or why not."""

from __future__ import annotations

import io
import struct
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from mstkit.datasets import UnreadableImage, read_image
from mstkit.datasets import image_reader as reader_module

SHORT, LONG = 3, 4


def tiff(values: np.ndarray, photometric: int | None = None, extra: tuple[int, ...] = (), **tags: Any) -> bytes:
    """An uncompressed TIFF of (H, W) or (H, W, bands), by nothing but its specification (TIFF 6.0, section 2)."""
    bands = values if values.ndim == 3 else values[..., None]
    height, width, count = bands.shape
    kind = {'u': 1, 'i': 2, 'f': 3}[bands.dtype.kind]
    entries = {
        256: (LONG, [width]), 257: (LONG, [height]), 258: (SHORT, [bands.dtype.itemsize * 8] * count),
        259: (SHORT, [1]), 262: (SHORT, [photometric if photometric is not None else 2 if count == 3 else 1]),
        273: (LONG, [0]), 277: (SHORT, [count]), 278: (LONG, [height]), 279: (LONG, [bands.nbytes]),
        284: (SHORT, [1]), 339: (SHORT, [kind] * count),
        **({338: (SHORT, list(extra))} if extra else {}),
        **{int(tag[1:]): (SHORT, value) for tag, value in tags.items()},
    }  # fmt: skip
    start = 8 + 2 + 12 * len(entries) + 4
    sizes = [len(value) * (2 if kind == SHORT else 4) for kind, value in entries.values()]
    entries[273] = (LONG, [start + sum(size for size in sizes if size > 4)])
    head, body = b'', b''
    for tag, (kind, value) in sorted(entries.items()):
        content = struct.pack(f'<{len(value)}{"H" if kind == SHORT else "I"}', *value)
        place = content.ljust(4, b'\0') if len(content) <= 4 else struct.pack('<I', start + len(body))
        body += content if len(content) > 4 else b''
        head += struct.pack('<HHI', tag, kind, len(value)) + place
    pixels = np.ascontiguousarray(bands).tobytes()
    return b'II*\0' + struct.pack('<IH', 8, len(entries)) + head + bytes(4) + body + pixels


def png(values: np.ndarray) -> bytes:
    """By OpenCV, which takes blue first."""
    return cv2.imencode('.png', values if values.ndim == 2 else values[..., [2, 1, 0, 3][: values.shape[2]]])[
        1
    ].tobytes()


def ramp(largest: float, kind: Any = np.uint16, bands: int = 0) -> np.ndarray:
    values = np.linspace(0, largest, 24 * 40).reshape(24, 40).astype(kind)
    return values if not bands else np.stack([np.roll(values, 7 * band, 1) for band in range(bands)], 2)


def gray(values: np.ndarray) -> np.ndarray:
    """(H, W) in 0..255 as the uint8 RGB that is expected."""
    return np.repeat(np.rint(values).astype(np.uint8)[..., None], 3, 2)


def close(read: np.ndarray, expected: np.ndarray) -> None:
    assert read.dtype == np.uint8 and read.shape == expected.shape
    assert np.abs(read.astype(int) - expected).max() <= 1


@pytest.mark.parametrize('write', [tiff, png])
@pytest.mark.parametrize(
    ('largest', 'white'), [(200, 255), (1000, 1023), (4095, 4095), (4000, 4095), (16000, 16383), (40000, 65535)]
)
def test_white_is_that_of_the_depth_that_is_used(write, largest, white):
    values = ramp(largest)
    close(read_image(write(values)), gray(values * 255.0 / white))
    colors = ramp(largest, bands=3)
    close(read_image(write(colors)), np.rint(colors * 255.0 / white))


def test_a_dark_image_of_a_file_that_says_its_depth():
    values = ramp(900)
    for tags in (dict(_281=[4095]), dict(_341=[4095])):
        close(read_image(tiff(values, **tags)), gray(values * 255.0 / 4095))
    close(read_image(tiff(values, _281=[900])), gray(values * 255.0 / 1023))  # that of the image: its depth counts
    colors = ramp(900, bands=3)
    close(read_image(tiff(colors, _281=[4095] * 3)), np.rint(colors * 255.0 / 4095))


def test_formats_that_declare_white_are_believed():
    values = ramp(900)
    head = b'P5 40 24 4095\n'
    close(read_image(head + values.astype('>u2').tobytes()), gray(values * 255.0 / 4095))


def test_color_with_alpha_in_16_bits():
    colors = np.concatenate([ramp(4000, bands=3), np.full((24, 40, 1), 65535, np.uint16)], 2)
    colors[:12, :, 3] = 0
    for data in (png(colors), tiff(colors, 2, extra=(2,))):
        read = read_image(data)
        assert (read[:12] == 128).all()
        close(read[12:], np.rint(colors[12:, :, :3] * 255.0 / 4095))


@pytest.mark.parametrize('kind', [np.uint8, np.uint16, np.float32])
def test_zero_is_white_where_the_file_says_so(kind):
    largest = {np.uint8: 255, np.uint16: 4095, np.float32: 1}[kind]
    values = ramp(largest, kind)
    close(read_image(tiff(values, 0)), 255 - gray(values * 255.0 / largest))
    for orientation in (3, 6):  # the tags are not forgotten when the image is turned
        stored = np.rot90(values, 2 if orientation == 3 else 1)
        close(read_image(tiff(stored, 0, _274=[orientation])), 255 - gray(values * 255.0 / largest))


@pytest.mark.parametrize('kind', [np.float32, np.float64])
@pytest.mark.parametrize('bands', [0, 3])
def test_floats(kind, bands):
    for low, largest, black, white in ((0, 1, 0, 1), (0, 200, 0, 255), (-5, 800, -5, 800), (0, 3000, 0, 3000)):
        values = (ramp(largest - low, kind, bands) + low).astype(kind)
        expected = (values.astype(float) - black) * 255 / (white - black)
        close(read_image(tiff(values)), gray(expected) if not bands else np.rint(expected))
        values[3, 3] = np.nan
        with pytest.raises(UnreadableImage, match=r'[13] of its .* values are not finite'):
            read_image(tiff(values))


def test_signed_values_are_stretched():
    values = ramp(3000, np.int16) - np.int16(1000)
    close(read_image(tiff(values)), gray((values + 1000.0) * 255 / 3000))


def test_five_bands():
    values = ramp(255, np.uint8, bands=5)
    close(read_image(tiff(values, 2, extra=(0, 0))), values[..., :3])  # the file says that the first three are RGB
    for data, words in (
        (tiff(values, 1, extra=(0, 0, 0, 0)), 'a TIFF of 5 bands of 8 bits, unsigned, .* write one band, or three'),
        (tiff(ramp(9999, bands=5), 2, extra=(0, 0)), 'a TIFF of 5 bands of 16 bits, unsigned'),
        (tiff(ramp(1, np.float32, bands=5), 1, extra=(0,) * 4), 'a TIFF of 5 bands of 32 bits, floating point'),
        (tiff(ramp(1, np.float16)), 'a TIFF of 1 band of 16 bits, floating point'),
    ):
        with pytest.raises(UnreadableImage, match=words):
            read_image(data)


@pytest.mark.parametrize(
    ('data', 'words'),
    [
        (b'\n<!DOCTYPE html><html>Not found', 'an HTML page'),
        (b'\xef\xbb\xbf<HTML>', 'an HTML page'),
        (b'<?xml version="1.0"?><Error/>', 'an XML file'),
        (b'version https://git-lfs.github.com/spec/v1\noid', 'git lfs pull'),
        (b'{"error": 404}', 'a JSON file'),
        (b'#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n', 'a Radiance HDR image'),
        (b'\x93NUMPY\x01\0', 'a NumPy array'),
        (bytes(128) + b'DICM' + bytes(99), 'a DICOM file'),
        (b'\0\0\0\x18ftypheic\0\0\0\0', 'a HEIF image'),
        (bytes(4000), 'nothing but zero bytes'),
        (b'II*\0\xff\xff\xff\xff', 'not in an image format'),
        (b'what is this', 'not in an image format that Pillow knows'),
    ],
)
def test_what_is_no_image_is_called_what_it_is(data, words):
    with pytest.raises(UnreadableImage, match=f'it is .*{words}'):
        read_image(data, 'a.jpg')


def test_of_several_frames_the_first_is_read_and_that_is_said_once(tmp_path, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(reader_module, 'print_log', lambda message, **_: said.append(message))
    monkeypatch.setattr(reader_module, '_frames_said', [])
    frames = [Image.fromarray(ramp(largest)) for largest in (4095, 1000, 9)]
    stream = io.BytesIO()
    frames[0].save(stream, 'TIFF')
    read_image(stream.getvalue())
    assert not said
    for name in ('a.tif', 'b.tif'):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        close(read_image(tmp_path / name), gray(ramp(4095) * 255.0 / 4095))
    assert len(said) == 1 and said[0].startswith(f'{tmp_path}/a.tif holds 3 frames')
