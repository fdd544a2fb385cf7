from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mstkit.datasets import CenterView, read_image
from mstkit.errors import UsageError
from mstkit.evaluation import EvaluatedNetwork, FeatureCache, labeled_folder

from .evaluated_networks import CLASSES, CountingNetwork, evaluated_of, make_folders


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_folders(tmp_path / 'data', train=4, val=2)


def test_labels_and_classes_without_reading_a_image(root: Path) -> None:
    for path in root.rglob('*.png'):
        path.write_bytes(b'')
    evaluated = evaluated_of(root)
    assert evaluated.classes() == CLASSES
    assert evaluated.labels('train').tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert evaluated.labels('val').tolist() == [0, 0, 1, 1, 2, 2]
    assert evaluated.labels('val').dtype == torch.int64


@pytest.mark.parametrize(('blocks', 'patches'), [(1, False), (2, True)])
def test_a_bank_equals_a_plain_loop(root: Path, blocks: int, patches: bool) -> None:
    network = CountingNetwork()
    rows = []
    for path in sorted((root / 'val').rglob('*.png')):
        pixels = CenterView(resize=18, crop=16).transform(dict(img=read_image(path)))['img']
        image = (torch.from_numpy(pixels).float() - torch.tensor(network.mean)) / torch.tensor(network.std)
        rows.append(network.features(image.permute(2, 0, 1)[None], blocks, patches)[0])
    evaluated = evaluated_of(root)
    found = evaluated.bank('val', last_blocks=blocks, mean_patch=patches)
    torch.testing.assert_close(found.features, torch.stack(rows))
    assert torch.equal(found.labels, evaluated.labels('val'))
    assert found.classes == CLASSES
    assert evaluated.bank('val', blocks, patches) is found


def test_features_are_found_again(root: Path, tmp_path: Path) -> None:
    cache, network = FeatureCache(tmp_path / 'cache'), CountingNetwork()
    first = evaluated_of(root, network, cache=cache).bank('train')
    assert network.seen == 12
    second = evaluated_of(root, network, cache=cache, batch_size=3, seed=5).bank('train')
    assert network.seen == 12
    assert torch.equal(first.features, second.features)
    plain = evaluated_of(root).bank('train')
    assert torch.equal(plain.features, first.features)
    assert torch.equal(plain.labels, first.labels)


def touch(root: Path) -> None:
    os.utime(root / 'train' / 'light' / '01.png', ns=(1, 1))


def rewrite(root: Path) -> None:
    """Other pixels, and the old time of change."""
    path = root / 'train' / 'light' / '01.png'
    before = path.stat()
    Image.new('RGB', (20, 20)).save(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def rename(root: Path) -> None:
    (root / 'train' / 'light' / '01.png').rename(root / 'train' / 'light' / '011.png')


def add(root: Path) -> None:
    Image.new('RGB', (20, 20)).save(root / 'train' / 'light' / '99.png')


@pytest.mark.parametrize('change', [touch, rewrite, rename, add])
def test_a_changed_file_is_computed_again(root: Path, tmp_path: Path, change: Callable[[Path], None]) -> None:
    cache, network = FeatureCache(tmp_path / 'cache'), CountingNetwork()
    evaluated_of(root, network, cache=cache).bank('train')
    change(root)
    network.seen = 0
    found = evaluated_of(root, network, cache=cache).bank('train')
    assert network.seen == len(found.features) > 0
    assert torch.equal(found.features, evaluated_of(root).bank('train').features)
    evaluated_of(root, network, cache=cache).bank('val')
    network.seen = 0
    evaluated_of(root, network, cache=cache).bank('val')
    assert network.seen == 0


@pytest.mark.parametrize(
    'change',
    [
        dict(fingerprint='f2'),  # another checkpoint, or another branch of it
        dict(image_size=8),
        dict(resize=20),
        dict(mean=(0.0, 0.0, 0.0)),
        dict(std=(1.0, 1.0, 1.0)),
    ],
)
def test_another_network_or_transform_is_computed_again(root: Path, tmp_path: Path, change: dict) -> None:
    cache = FeatureCache(tmp_path / 'cache')
    evaluated_of(root, cache=cache).bank('val')
    other = CountingNetwork()
    for name, value in change.items():
        setattr(other, name, value)
    found = evaluated_of(root, other, cache=cache).bank('val')
    assert other.seen == 6
    assert torch.equal(found.features, evaluated_of(root, other).bank('val').features)


def test_another_kind_of_feature_is_computed_again(root: Path, tmp_path: Path) -> None:
    cache, network = FeatureCache(tmp_path / 'cache'), CountingNetwork()
    widths = [
        evaluated_of(root, network, cache=cache).bank('val', blocks, patches).features.shape[1]
        for blocks, patches in ((1, False), (1, True), (2, False))
    ]
    assert widths == [12, 15, 27]
    assert network.seen == 18


def test_what_could_not_be_read_is_said_again(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / 'val' / 'light' / '00.png').write_bytes(b'no image')
    said: list[str] = []
    monkeypatch.setattr('mstkit.evaluation.features.print_log', lambda message, **_: said.append(message))
    cache = FeatureCache(tmp_path / 'cache')
    banks = [evaluated_of(root, cache=cache).bank('val') for _ in range(2)]
    assert len(said) == 2
    assert all('1 unreadable images were replaced by others' in line and '00.png' in line for line in said)
    assert torch.equal(banks[0].labels, banks[1].labels)


def test_mistakes(root: Path, tmp_path: Path) -> None:
    other = make_folders(tmp_path / 'other', classes=('dark', 'light', 'blue', 'red'))
    with pytest.raises(UsageError, match=r'different classes \(only in train: none; only in val: blue\)'):
        EvaluatedNetwork(CountingNetwork(), root / 'train', other / 'val')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(UsageError, match='holds no images'):
        EvaluatedNetwork(CountingNetwork(), root / 'train', tmp_path / 'empty')
    with pytest.raises(UsageError, match='does not exist'):
        labeled_folder(tmp_path / 'none')
    evaluated = evaluated_of(root)
    for ask in (evaluated.bank, evaluated.labels, evaluated.loader):
        with pytest.raises(UsageError, match=r"no split 'vla', only 'train' and 'val'. Did you mean val"):
            ask('vla')
    evaluated.check_features(4)
    with pytest.raises(UsageError, match='last_blocks is 5; counting has 4'):
        evaluated.check_features(5)
    with pytest.raises(UsageError, match="no view 'centre'"):
        evaluated.loader('val', 'centre')


def images_of(evaluated: EvaluatedNetwork, epoch: int) -> tuple[torch.Tensor, list[int]]:
    loader = evaluated.loader('train', 'augmented')
    loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
    batches = list(loader)
    order = [int(sample.sample_idx) for batch in batches for sample in batch['data_samples']]
    return torch.cat([batch['inputs'] for batch in batches]), order


def test_augmented_images_follow_from_seed_and_epoch(root: Path) -> None:
    before = torch.get_rng_state()
    images, order = images_of(evaluated_of(root), 1)
    assert images.shape == (12, 3, 16, 16)
    assert images.dtype == torch.uint8
    assert sorted(order) == list(range(12))
    again, same_order = images_of(evaluated_of(root, batch_size=2), 1)
    assert torch.equal(images, again)
    assert order == same_order
    for evaluated, epoch in ((evaluated_of(root), 2), (evaluated_of(root, seed=1), 1)):
        others, other_order = images_of(evaluated, epoch)
        assert order != other_order
        assert not torch.equal(images[order.index(0)], others[other_order.index(0)])
    assert torch.equal(torch.get_rng_state(), before)


def test_augmented_images_are_parts_of_8_to_100_percent_and_half_are_flipped(tmp_path: Path) -> None:
    """On an image whose red is the column and whose green is the row, a part tells where it comes from."""
    across = np.linspace(0, 255, 128).round()
    pixels = np.stack([np.tile(across, (128, 1)), np.tile(across[:, None], (1, 128)), np.zeros((128, 128))], axis=2)
    for split in ('train', 'val'):
        for name in 'ab':
            (tmp_path / split / name).mkdir(parents=True)
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / split / name / f'{split}.png')
    evaluated = evaluated_of(tmp_path)
    parts = torch.cat([images_of(evaluated, epoch)[0] for epoch in range(150)]).float() / 255
    middle = parts[:, :, 4:12, 4:12]  # eight of sixteen pixels, away from the edges that the filter blurs
    width = (middle[:, 0, 4, -1] - middle[:, 0, 4, 0]) * 16 / 7
    height = (middle[:, 1, -1, 4] - middle[:, 1, 0, 4]) * 16 / 7
    area = width.abs() * height
    assert bool((height > 0).all())
    assert 0.4 < float((width < 0).float().mean()) < 0.6
    assert 0.06 < float(area.min()) < 0.15
    assert 0.9 < float(area.max()) < 1.05
    assert float(area.mean()) == pytest.approx(0.54, abs=0.05)
    assert evaluated.loader('train', 'augmented').sampler is not evaluated.loader('train').sampler


def test_augmented_images_are_bilinear_and_central_ones_bicubic(tmp_path: Path) -> None:
    """Torchvision's default for random crops, which papers probe with: no value beyond those of the image."""
    stripes = np.where(np.arange(64) // 8 % 2, 192, 64).astype(np.uint8)
    for split in ('train', 'val'):
        for name in 'ab':
            (tmp_path / split / name).mkdir(parents=True)
            Image.fromarray(np.tile(stripes[:, None], (64, 1, 3))).save(tmp_path / split / name / f'{split}.png')
    evaluated = evaluated_of(tmp_path)
    cropped = torch.cat([images_of(evaluated, epoch)[0] for epoch in range(20)])
    assert (int(cropped.min()), int(cropped.max())) == (64, 192)
    central = next(iter(evaluated.loader('train')))['inputs']
    assert int(central.min()) < 64 and int(central.max()) > 192
