from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from mstkit.errors import UsageError
from mstkit.evaluation.benchmarks.whole_image_features import (
    WholeImages,
    cut_to_stride,
    patch_stride,
    whole_image_features,
)
from mstkit.structures import TokenOutput

MEAN, STD = (100.0, 110.0, 120.0), (50.0, 60.0, 70.0)


class FakeNetwork:
    """Patches of 8 px; remembers the images it saw."""

    image_size = 32

    def __init__(self) -> None:
        self.seen: list[torch.Tensor] = []

    def __call__(self, images: torch.Tensor) -> TokenOutput:
        maps = functional.avg_pool2d(images, 8)
        tokens = maps.flatten(2).transpose(1, 2)
        return TokenOutput(tokens, tokens.mean(dim=1), tuple(maps.shape[-2:]))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append(images)
        assert images.shape[-2] % 8 == 0 and images.shape[-1] % 8 == 0
        return torch.cat([images.mean(dim=(2, 3)), images.std(dim=(2, 3))], dim=1)


@pytest.fixture
def paths(tmp_path):
    generator = np.random.default_rng(0)
    sizes = {'wide': (90, 50), 'tall': (40, 80), 'tiny': (6, 20)}
    for name, (width, height) in sizes.items():
        pixels = generator.integers(0, 256, (height, width, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f'{name}.png')
    return [tmp_path / f'{name}.png' for name in sizes]


def test_images_keep_their_ratio_and_are_never_enlarged(paths):
    shapes = [tuple(image.shape) for image in (WholeImages(paths, 45)[i] for i in range(3))]
    assert shapes == [(3, 25, 45), (3, 45, 22), (3, 20, 6)] or shapes == [(3, 25, 45), (3, 45, 23), (3, 20, 6)]
    original = np.asarray(Image.open(paths[0]))
    assert torch.equal(WholeImages(paths, 200)[0], torch.from_numpy(original.copy()).permute(2, 0, 1))


def test_boxes_are_cut_out_before_resizing(paths):
    original = torch.from_numpy(np.array(Image.open(paths[0]))).permute(2, 0, 1)
    images = WholeImages(paths[:2], 200, [(10.2, 5.0, 30.0, 500.0), None])
    assert torch.equal(images[0], original[:, 5:, 10:30])
    assert images[1].shape == (3, 80, 40)
    with pytest.raises(UsageError, match='90x50 px and its box'):
        WholeImages(paths[:1], 200, [(300.0, 0.0, 400.0, 50.0)])[0]


def test_features_at_one_scale(paths):
    network = FakeNetwork()
    stride = patch_stride(network)
    assert stride == 8
    measured = whole_image_features(network.features, WholeImages(paths, 1000), MEAN, STD, stride)
    image = torch.from_numpy(np.array(Image.open(paths[0]))).permute(2, 0, 1).float()
    normalized = (image - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    assert torch.allclose(network.seen[0][0], normalized[:, :48, :88])
    expected = functional.normalize(FakeNetwork().features(normalized[None, :, :48, :88]), dim=1)
    assert torch.allclose(measured[:1], expected)
    assert [tuple(images.shape[-2:]) for images in network.seen] == [(48, 88), (80, 40), (16, 8)]


def test_several_scales_are_averaged_before_normalizing(paths):
    network = FakeNetwork()
    scales = (1.0, 0.5)
    measured = whole_image_features(network.features, WholeImages(paths[:1], 1000), MEAN, STD, 8, scales)
    assert [tuple(images.shape[-2:]) for images in network.seen] == [(48, 88), (24, 40)]
    mean = sum(FakeNetwork().features(images) for images in network.seen) / 2
    assert torch.allclose(measured, functional.normalize(mean, dim=1), atol=1e-6)


def test_smaller_than_a_patch():
    assert cut_to_stride(torch.zeros(1, 3, 5, 21), 8).shape == (1, 3, 8, 16)


def test_a_image_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / 'broken.jpg').write_bytes(b'no image')
    with pytest.raises(UsageError, match=r'broken\.jpg.*needs every image'):
        WholeImages([tmp_path / 'broken.jpg'], 100)[0]
