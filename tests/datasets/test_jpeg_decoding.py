"""JPEG files: the quick decoder gives Pillow's pixels, the scaled one the same crops of fewer pixels."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest
from PIL import Image

from mstkit.datasets import CenterView, LoadRGB, MultiCrop, SampleKey, UnreadableImage, jpeg, read_image
from mstkit.datasets.image_reader import open_image
from mstkit.datasets.lazy_image import LazyImage
from mstkit.datasets.multi_crop import scale_box
from tests.datasets.test_image_reader import STORED, encode


def photograph(height: int = 360, width: int = 480, seed: int = 0) -> Image.Image:
    """Something with edges, texture and smooth parts."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (height // 40, width // 40, 3), dtype=np.uint8))
    image = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(float)
    image[height // 3 : height // 2, width // 4 : width // 2] *= 0.4
    image += rng.normal(0, 4, image.shape)
    return Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))


def by_pillow(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image.convert('RGB'))


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(1e-9, np.mean((one.astype(float) - other) ** 2))))


@pytest.mark.parametrize('subsampling', [0, 1, 2])
@pytest.mark.parametrize('progressive', [False, True])
@pytest.mark.parametrize('size', [(64, 80), (37, 53)])
@pytest.mark.parametrize('old', [False, True])
def test_the_quick_decoder_gives_pillows_pixels(subsampling, progressive, size, old, monkeypatch):
    if old:  # an OpenCV that gives BGR alone
        monkeypatch.setattr(jpeg, '_RGB', None)
    image = photograph(400, 440).resize(size)
    data = encode(image, 'JPEG', subsampling=subsampling, progressive=progressive, quality=80)
    quick = jpeg.decode_quickly(data, size[1], size[0])
    assert quick is not None and quick.flags.writeable and quick.flags.c_contiguous
    np.testing.assert_array_equal(quick, by_pillow(data))
    np.testing.assert_array_equal(read_image(data), quick)
    for step in (2, 4, 8):
        reduced = jpeg.decode_quickly(data, size[1], size[0], step)
        np.testing.assert_array_equal(reduced, read_image(data + b'\0', reduction=step))  # read by Pillow


def test_gray_and_what_is_left_to_pillow(monkeypatch):
    image = photograph().resize((40, 30))
    gray = encode(image.convert('L'), 'JPEG')
    np.testing.assert_array_equal(read_image(gray), by_pillow(gray))
    data = encode(image, 'JPEG')
    assert jpeg.decode_quickly(data, 31, 40) is None  # not the size that the head says
    assert jpeg.decode_quickly(data + b'\0', 30, 40) is None  # not the end of a whole file
    for given in (data, data + b'\0\0 and a word'):
        np.testing.assert_array_equal(read_image(given), by_pillow(data))


def test_damaged_files_are_refused_as_pillow_refuses_them():
    data = encode(photograph().resize((96, 80)), 'JPEG', quality=85)
    for length in range(200, len(data), 97):
        with pytest.raises(UnreadableImage):
            read_image(data[:length])
        with pytest.raises(UnreadableImage):
            np.asarray(open_image(data[:length]))
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(data), 60):
        broken = bytearray(data)
        broken[place] ^= int(rng.integers(1, 256))
        try:
            expected = by_pillow(bytes(broken))
        except Exception:
            with pytest.raises(UnreadableImage):
                read_image(bytes(broken))
        else:
            np.testing.assert_array_equal(read_image(bytes(broken)), expected)


@pytest.mark.parametrize('reduction', [1, 2, 3, 4, 7, 8, 100])
@pytest.mark.parametrize('orientation', sorted(STORED))
def test_reduced_images_are_upright_and_whole(orientation, reduction):
    image = np.asarray(photograph(120, 203).resize((203, 120)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](image)))
    lazy = open_image(encode(stored, 'JPEG', exif=exif, quality=95, subsampling=0))
    assert isinstance(lazy, LazyImage) and lazy.shape == (120, 203, 3)
    read = lazy.read(reduction)
    step = max(k for k in (1, 2, 4, 8) if k <= reduction)
    assert read.shape == (-(-120 // step), -(-203 // step), 3)
    expected = np.asarray(stored.reduce(step)) if step > 1 else np.asarray(stored)
    assert np.abs(STORED[orientation](read).astype(int) - expected).mean() < 4


@pytest.mark.parametrize('kind', ['PNG', 'CMYK', 'gray 16', 'GIF'])
def test_other_images_are_read_as_a_whole(kind, tmp_path):
    image = photograph().resize((60, 50))
    if kind == 'gray 16':
        image, kind = Image.fromarray(np.asarray(image.convert('L')).astype(np.uint16) * 257), 'PNG'
    data = encode(image.convert('CMYK'), 'JPEG') if kind == 'CMYK' else encode(image, kind)
    np.testing.assert_array_equal(open_image(data), read_image(data), strict=True)
    np.testing.assert_array_equal(read_image(data, reduction=8), read_image(data), strict=True)
    path = tmp_path / 'image'
    path.write_bytes(data)
    np.testing.assert_array_equal(LoadRGB(scaled=True)(dict(img_path=str(path)))['img'], read_image(data), strict=True)


def test_a_lazy_image_is_an_array_to_whoever_takes_it_for_one():
    data = encode(photograph(), 'JPEG')
    lazy = pickle.loads(pickle.dumps(open_image(data)))
    np.testing.assert_array_equal(np.asarray(lazy), read_image(data))
    view = CenterView(64, 56)(dict(img=lazy))['img']
    np.testing.assert_array_equal(view, CenterView(64, 56)(dict(img=read_image(data)))['img'])


PLAIN = dict.fromkeys(('flip', 'jitter', 'gray', 'blur', 'solarize'), 0.0)


@pytest.mark.parametrize(('size', 'steps'), [((360, 480), {1}), ((1400, 1000), {1, 2}), ((2400, 1800), {2, 4})])
def test_scaled_decoding_changes_neither_draws_nor_enlarges_crops(size, steps, monkeypatch):
    data = encode(photograph(*size), 'JPEG', quality=92)
    asked: list[int] = []
    read = LazyImage.__init__

    def record(self, reader, height, width):
        def note(reduction):
            asked.append(max(1, reduction))
            return reader(reduction)

        read(self, note, height, width)

    monkeypatch.setattr(LazyImage, '__init__', record)
    crops = dict(global_crops=dict(size=112), local_crops=dict(size=48, scale=(0.05, 0.4), count=4))
    transform = MultiCrop(**crops, global_recipes=PLAIN, local_recipe=PLAIN, photometric='device')
    taken, fidelity = set(), []
    for index in range(6):
        key = SampleKey(index, 4)
        scaled = transform(LoadRGB(scaled=True)(dict(img_bytes=data, img_path='a.jpg', sample_idx=key)))
        whole = transform(LoadRGB()(dict(img_bytes=data, img_path='a.jpg', sample_idx=key)))
        np.testing.assert_array_equal(scaled['photometric'], whole['photometric'])
        taken.add(max(k for k in (1, 2, 4, 8) if k <= asked[-1]))
        fidelity += [psnr(one, other) for one, other in zip(scaled['img'], whole['img'], strict=True)]
    assert len(asked) == 6  # one decoding per image
    assert taken <= steps and min(fidelity) > 30 and np.median(fidelity) > 38
    if steps == {1}:
        assert min(fidelity) > 80  # the same pixels


def test_scaled_boxes_keep_their_place():
    rng = np.random.default_rng(0)
    for _ in range(300):
        height, width = (int(value) for value in rng.integers(200, 900, 2))
        w, h = int(rng.integers(64, width + 1)), int(rng.integers(64, height + 1))
        left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
        for step in (2, 4, 8):
            small = (-(-height // step), -(-width // step))
            x, y, a, b = scale_box((left, top, w, h), step, *small)
            assert x >= 0 and y >= 0 and x + a <= small[1] and y + b <= small[0]
            assert np.abs(step * np.array([x, y, x + a, y + b]) - [left, top, left + w, top + h]).max() <= step / 2
