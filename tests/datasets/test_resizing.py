"""Crops are resized as Pillow does it, antialiased, bicubic or bilinear: PSNR of at least 50 dB, usually far more."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from mstkit.datasets import MultiCrop, crop_resizing
from mstkit.datasets.crop_resizing import INTERPOLATION, RESIZE
from mstkit.errors import UsageError
from tests.datasets.test_jpeg_decoding import photograph, psnr

BOXES = [(0, 0, 480, 360), (13, 7, 224, 224), (100, 50, 96, 90), (5, 5, 60, 80), (200, 100, 1, 1), (3, 300, 333, 41)]


@pytest.mark.parametrize('interpolation', INTERPOLATION)
@pytest.mark.parametrize('name', sorted(RESIZE))
@pytest.mark.parametrize('size', [224, 96, 32])
@pytest.mark.parametrize('box', BOXES, ids=str)
def test_fidelity(name, size, box, interpolation):
    noise = np.random.default_rng(1).integers(0, 256, (360, 480, 3), dtype=np.uint8)
    for image in (np.asarray(photograph()), noise):
        kept = image.copy()
        left, top, w, h = box
        patch = Image.fromarray(image).crop((left, top, left + w, top + h))
        expected = np.asarray(patch.resize((size, size), Image.Resampling[interpolation.upper()]))
        made = RESIZE[name](image, box, size, interpolation)
        assert made.dtype == np.uint8 and made.shape == (size, size, 3) and made.flags.c_contiguous
        assert psnr(made, expected) > (90 if name == 'pillow' else 50)
        np.testing.assert_array_equal(image, kept)
        assert not np.shares_memory(made, image)


@pytest.mark.parametrize('box', BOXES, ids=str)
def test_the_kernel_gets_one_image_channels_last(box, monkeypatch):
    given, interpolate = [], crop_resizing.functional.interpolate

    def seen(patch, *args, **options):
        given.append(patch)
        return interpolate(patch, *args, **options)

    monkeypatch.setattr(crop_resizing.functional, 'interpolate', seen)
    made = RESIZE['torch'](np.asarray(photograph()), box, 32, 'bicubic')
    # Else PyTorch takes the kernel of separate planes, which is slower; an axis of None would have a stride of 0.
    assert given[0].is_contiguous(memory_format=torch.channels_last)
    _, _, width, height = box
    assert given[0].stride() == (3 * width * height, 1, 3 * width, 3) and made.flags.c_contiguous


def test_unknown_words():
    with pytest.raises(UsageError, match="resize is 'opencv': give 'torch' or 'pillow'"):
        MultiCrop(resize='opencv')
    with pytest.raises(UsageError, match="interpolation is 'nearest': give 'bicubic' or 'bilinear'"):
        MultiCrop(interpolation='nearest')
    with pytest.raises(UsageError, match="photometric is 'gpu': give 'cpu' or 'device'"):
        MultiCrop(photometric='gpu')
