"""Whatever a file holds, it is read as upright uint8 RGB, or refused with a reason."""

from __future__ import annotations

import io
import struct
import warnings

import numpy as np
import pytest
from PIL import Image

from mstkit.datasets import LoadRGB, UnreadableImage, read_image
from mstkit.errors import UsageError


@pytest.fixture
def image() -> np.ndarray:
    """(24, 40, 3): four plain quarters, so that every orientation and lossy compression can be told apart."""
    image = np.zeros((24, 40, 3), np.uint8)
    image[:12, :20], image[:12, 20:], image[12:, :20], image[12:, 20:] = (
        (200, 30, 30),
        (30, 200, 30),
        (30, 30, 200),
        (220, 220, 40),
    )
    return image


def encode(image: Image.Image, fmt: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, fmt, **options)
    return stream.getvalue()


@pytest.mark.parametrize('suffix', ['png', 'bmp', 'tif', 'ppm', 'webp', 'gif', 'jpg'])
def test_rgb_in_every_format(tmp_path, image, suffix):
    path = tmp_path / f'an image.{suffix}'
    Image.fromarray(image).save(path, **(dict(lossless=True) if suffix == 'webp' else {}))
    read = read_image(path)
    assert read.dtype == np.uint8 and read.shape == image.shape and read.flags.writeable
    tolerance = 40 if suffix == 'jpg' else 0
    assert np.abs(read[4:8, 4:16].astype(int) - image[4:8, 4:16]).max() <= tolerance
    if suffix != 'jpg':
        np.testing.assert_array_equal(read, image)


def test_the_name_does_not_decide(tmp_path, image):
    path = tmp_path / 'png_in_disguise.JPEG'
    path.write_bytes(encode(Image.fromarray(image), 'PNG'))
    np.testing.assert_array_equal(read_image(path), image)


def test_gray_and_bilevel(image):
    gray = Image.fromarray(image).convert('L')
    np.testing.assert_array_equal(read_image(encode(gray, 'PNG')), np.repeat(np.asarray(gray)[..., None], 3, 2))
    bits = Image.fromarray(image[..., 0] > 100)
    np.testing.assert_array_equal(read_image(encode(bits, 'PNG'))[..., 1], (image[..., 0] > 100) * 255)


def test_palette(image):
    palette = Image.fromarray(image).convert('P', palette=Image.Palette.ADAPTIVE, colors=8)
    np.testing.assert_array_equal(read_image(encode(palette, 'PNG')), image)


def test_palette_with_transparency(image):
    palette = Image.fromarray(image).convert('P', palette=Image.Palette.ADAPTIVE, colors=8)
    index = palette.getpixel((0, 0))
    for transparency in (index, bytes(0 if i == index else 255 for i in range(8))):
        read = read_image(encode(palette, 'PNG', transparency=transparency))
        assert (read[:12, :20] == 128).all()
        np.testing.assert_array_equal(read[12:], image[12:])


def test_transparency_is_composited_on_gray(image):
    alpha = np.full((24, 40, 1), 255, np.uint8)
    alpha[:12, :20] = 0
    alpha[:12, 20:] = 51  # a fifth
    read = read_image(encode(Image.fromarray(np.concatenate([image, alpha], 2), 'RGBA'), 'PNG')).astype(int)
    assert (read[:12, :20] == 128).all()
    expected = 128 + (image[0, 39].astype(int) - 128) / 5
    assert np.abs(read[:12, 20:] - expected).max() <= 1
    np.testing.assert_array_equal(read[12:], image[12:])


def test_gray_with_alpha_and_color_key(image):
    layer = np.stack([image[..., 0], np.where(image[..., 0] == 200, 0, 255).astype(np.uint8)], 2)
    read = read_image(encode(Image.fromarray(layer, 'LA'), 'PNG'))
    assert (read[:12, :20] == 128).all() and (read[:12, 20:] == 30).all()
    keyed = read_image(encode(Image.fromarray(image), 'PNG', transparency=(200, 30, 30)))
    assert (keyed[:12, :20] == 128).all()
    np.testing.assert_array_equal(keyed[12:], image[12:])


@pytest.mark.parametrize('marker', [True, False])
def test_cmyk_jpeg_with_and_without_adobes_marker(image, marker):
    data = encode(Image.fromarray(image).convert('CMYK'), 'JPEG', quality=95, subsampling=0)
    start = data.index(b'\xff\xee')
    assert data[start + 4 : start + 9] == b'Adobe'
    expected = image
    if not marker:  # the same bytes then mean the inks as they are: what was 255 - ink is the ink
        length = struct.unpack('>H', data[start + 2 : start + 4])[0]
        data = data[:start] + data[start + 2 + length :]
        ink = 255 - np.asarray(Image.fromarray(image).convert('CMYK'))
        expected = np.asarray(Image.fromarray(ink, 'CMYK').convert('RGB'))
    read = read_image(data).astype(int)
    assert np.abs(read[3:9, 3:17] - expected[3:9, 3:17]).max() <= 12
    assert np.abs(read[15:21, 23:37] - expected[15:21, 23:37]).max() <= 12


def test_cmyk_tiff_is_not_inverted(image):
    read = read_image(encode(Image.fromarray(image).convert('CMYK'), 'TIFF'))
    assert np.abs(read.astype(int) - image).max() <= 1


@pytest.mark.parametrize('fmt', ['PNG', 'TIFF'])
def test_16_bit_gray_is_scaled_not_clipped(fmt):
    values = np.linspace(0, 65535, 24 * 40).round().astype(np.uint16).reshape(24, 40)
    read = read_image(encode(Image.fromarray(values), fmt))
    np.testing.assert_array_equal(read, np.repeat(np.rint(values / 257).astype(np.uint8)[..., None], 3, 2))
    assert np.unique(read).size == 256


def test_32_bit_gray():
    ramp = np.linspace(0, 1, 24 * 40, dtype=np.float32).reshape(24, 40)
    for values in (ramp, ramp * 255, ramp * 3000 - 1000, (ramp * 1e6).astype(np.int32)):
        read = read_image(encode(Image.fromarray(values), 'TIFF'))
        assert np.abs(read[..., 0] - ramp * 255).max() <= 1
    ramp[3, 3] = np.nan
    with pytest.raises(UnreadableImage, match='not finite'):
        read_image(encode(Image.fromarray(ramp), 'TIFF'))


# How an upright image has to be stored for a viewer that obeys the tag to show it upright (EXIF 2.3, tag 274).
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize('fmt', ['JPEG', 'PNG', 'TIFF'])
@pytest.mark.parametrize('orientation', sorted(STORED))
def test_exif_orientation(image, orientation, fmt):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](image)))
    options = dict(quality=95, subsampling=0) if fmt == 'JPEG' else {}
    read = read_image(encode(stored, fmt, exif=exif, **options))
    assert read.shape == image.shape
    assert np.abs(read.astype(int) - image).mean() < (4 if fmt == 'JPEG' else 1e-9)


def test_damaged_exif_is_no_reason_to_refuse(image):
    data = encode(Image.fromarray(image), 'JPEG', exif=b'Exif\x00\x00II*\x00\xff\xff\xff\xff')
    assert read_image(data).shape == image.shape


def test_unreadable_files(tmp_path, image):
    good = encode(Image.fromarray(image), 'PNG')
    jpeg = encode(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)), 'JPEG')
    damaged = bytearray(good)
    damaged[50:60] = b'\0' * 10
    cases = {
        'empty.jpg': (b'', 'empty'),
        'text.jpg': (b'this is not an image', 'format'),
        'truncated.png': (good[: len(good) // 2], ''),
        'truncated.jpg': (jpeg[: len(jpeg) // 2], 'truncated'),
        'damaged.png': (bytes(damaged), ''),
        'header.jpg': (jpeg[:20], ''),
    }
    for name, (data, reason) in cases.items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(UnreadableImage) as caught:
            read_image(str(path))
        assert caught.value.path == str(path)
        assert reason in caught.value.reason and caught.value.reason
    for path, reason in ((tmp_path / 'missing.jpg', 'no such file'), (tmp_path, 'directory')):
        with pytest.raises(UnreadableImage, match=reason):
            read_image(path)


def test_decompression_bomb(monkeypatch, image):
    data = encode(Image.fromarray(image), 'PNG')
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', image.size // 3 // 3)
    with pytest.raises(UnreadableImage, match='MAX_IMAGE_PIXELS'):
        read_image(data)
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', image.size // 3 - 1)  # Pillow only warns: large, but legitimate
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        np.testing.assert_array_equal(read_image(data), image)


def test_load_rgb(tmp_path, image):
    path = tmp_path / 'a.png'
    Image.fromarray(image).save(path)
    results = LoadRGB()(dict(img_path=str(path)))
    np.testing.assert_array_equal(results['img'], image)
    assert results['img_shape'] == results['ori_shape'] == (24, 40)
    assert LoadRGB()(dict(img=image))['img'] is image
    gray = image[..., 0]
    for array in (gray, gray[..., None]):
        np.testing.assert_array_equal(LoadRGB()(dict(img=array))['img'], np.repeat(gray[..., None], 3, 2))


@pytest.mark.parametrize(
    'results',
    [
        dict(sample_idx=0),
        dict(img=np.zeros((4, 4, 3), np.float32)),
        dict(img=np.zeros((4, 4, 4), np.uint8)),
        dict(img=np.zeros((0, 4, 3), np.uint8)),
        dict(img=[[1]]),
    ],
)
def test_load_rgb_refuses(results):
    with pytest.raises(UsageError):
        LoadRGB()(results)
