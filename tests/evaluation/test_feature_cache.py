from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing
from torch import Tensor

from mstkit.errors import UsageError
from mstkit.evaluation import FeatureCache, extract_features, feature_loader
from mstkit.evaluation.feature_cache import digest_of_files
from mstkit.structures import FeatureBank

from ..two_processes import TwoProcesses
from .fakes import ColorDataset

SIZE = 13


def preprocess(batch: dict) -> Tensor:
    return batch['inputs'].float() / 255


def flat(images: Tensor) -> Tensor:
    return images.flatten(1)


def bank_of(
    cache: FeatureCache, dataset: ColorDataset, encode: Callable[[Tensor], Tensor] = flat, **identity: str
) -> FeatureBank:
    return cache.bank({'network': 'a', **identity}, encode, dataset, 'cpu', preprocess, 'test', batch_size=2)


def expected(size: int = SIZE) -> FeatureBank:
    return extract_features(flat, feature_loader(ColorDataset(size)), 'cpu', preprocess, 'test')


def entry_of(cache: FeatureCache) -> Path:
    (entry,) = cache.folder.iterdir()
    return entry


def same(found: FeatureBank, wanted: FeatureBank) -> bool:
    return (
        torch.equal(found.features, wanted.features)
        and torch.equal(found.labels, wanted.labels)
        and found.classes == wanted.classes
    )


@pytest.mark.parametrize('chunk', [4, 13, 100])
def test_computed_once_and_read_from_then_on(tmp_path: Path, chunk: int) -> None:
    cache, dataset = FeatureCache(tmp_path / 'new' / 'cache', chunk), ColorDataset(SIZE)
    assert same(bank_of(cache, dataset), expected())
    assert dataset.reads == list(range(SIZE))
    again = bank_of(FeatureCache(cache.folder), dataset)
    assert same(again, expected())
    assert len(dataset.reads) == SIZE
    assert sorted(path.name for path in entry_of(cache).iterdir()) == ['entry.json', 'features.npy', 'labels.npy']
    about = json.loads((entry_of(cache) / 'entry.json').read_text())
    assert (about['network'], about['images'], about['replaced']) == ('a', SIZE, [])


def test_features_stay_in_the_file_until_they_are_used(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    bank = bank_of(cache, ColorDataset(SIZE))
    file = np.load(entry_of(cache) / 'features.npy', mmap_mode='r+')
    file[3] = 7.0
    file.flush()
    assert bool((bank.features[3] == 7.0).all())  # mapped, not copied
    bank.features[4] = 8.0
    assert not (np.load(entry_of(cache) / 'features.npy')[4] == 8.0).any()  # and not written to


@pytest.mark.parametrize('broken_at', [0, 1, 3, 6])
def test_an_interrupted_extraction_goes_on(tmp_path: Path, broken_at: int) -> None:
    """The batches number 0 to 6 of two images; chunks of four: what was whole is not read again."""
    cache, first, batches = FeatureCache(tmp_path, chunk=4), ColorDataset(SIZE), iter(range(100))

    def breaking(images: Tensor) -> Tensor:
        if next(batches) == broken_at:
            raise KeyboardInterrupt
        return flat(images)

    with pytest.raises(KeyboardInterrupt):
        bank_of(cache, first, breaking)
    second = ColorDataset(SIZE)
    assert same(bank_of(cache, second), expected())
    assert second.reads == list(range(broken_at // 2 * 4, SIZE))


@pytest.mark.parametrize('other', [{'network': 'b'}, {'transform': 'x'}, {'files': 'x'}, {'last_blocks': '4'}])
def test_another_identity_is_another_entry(tmp_path: Path, other: dict[str, str]) -> None:
    cache, dataset = FeatureCache(tmp_path), ColorDataset(SIZE)
    bank_of(cache, dataset)
    doubled = bank_of(cache, dataset, lambda images: 2 * flat(images), **other)
    assert torch.equal(doubled.features, 2 * expected().features)
    assert len(list(cache.folder.iterdir())) == 2
    assert same(bank_of(cache, dataset), expected())


def test_another_run_on_the_same_entry_does_no_harm(tmp_path: Path) -> None:
    """It finishes, and takes its files away, while this one is in its third chunk."""
    batches = iter(range(100))

    def interrupted(images: Tensor) -> Tensor:
        if next(batches) == 5:
            assert same(bank_of(FeatureCache(tmp_path, chunk=4), ColorDataset(SIZE)), expected())
        return flat(images)

    assert same(bank_of(FeatureCache(tmp_path, chunk=4), ColorDataset(SIZE), interrupted), expected())
    assert same(bank_of(FeatureCache(tmp_path, chunk=4), ColorDataset(SIZE)), expected())


def test_digest_of_files(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ('a.png', 'b.png')]
    for path in paths:
        path.write_bytes(b'12')
    names = list(map(str, paths))
    found = {digest_of_files(tmp_path, names), digest_of_files(tmp_path, names[::-1])}
    found.add(digest_of_files(tmp_path.parent, names))
    paths[0].write_bytes(b'123')
    found.add(digest_of_files(tmp_path, names))
    paths[1].unlink()
    found.add(digest_of_files(tmp_path, names))
    assert len(found) == 5
    # Elsewhere under the same root it is the same list.
    moved = tmp_path / 'moved'
    moved.mkdir()
    before = digest_of_files(tmp_path, names[:1])
    paths[0].rename(moved / 'a.png')
    assert digest_of_files(moved, [str(moved / 'a.png')]) == before


def test_mistakes(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path / 'cache')
    bank_of(cache, ColorDataset(SIZE))
    file = entry_of(cache) / 'features.npy'
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UsageError, match='remove that folder') as caught:
        bank_of(cache, ColorDataset(SIZE))
    assert str(entry_of(cache)) in str(caught.value)
    (tmp_path / 'file').write_text('')
    with pytest.raises(UsageError, match='cannot be created'):
        FeatureCache(tmp_path / 'file')
    with pytest.raises(UsageError, match='no labels'):
        bank_of(cache, ColorDataset(SIZE, labeled=False))
    unnamed = [ColorDataset(SIZE)[index] for index in range(SIZE)]
    with pytest.raises(UsageError, match='does not name its classes'):
        bank_of(cache, unnamed)


def worker(rank: int, folder: str) -> None:
    dataset = ColorDataset(SIZE)
    found = bank_of(FeatureCache(f'{folder}/cache', chunk=4), dataset)
    torch.save({'features': found.features.clone(), 'reads': dataset.reads}, f'{folder}/{rank}.pth')


def test_two_processes_go_on_where_one_was_interrupted(run_two: TwoProcesses, tmp_path: Path) -> None:
    """And equal one: the last chunk has one image, so that one of them has none."""
    batches = iter(range(100))

    def breaking(images: Tensor) -> Tensor:
        if next(batches) == 3:
            raise KeyboardInterrupt
        return flat(images)

    with pytest.raises(KeyboardInterrupt):
        bank_of(FeatureCache(tmp_path / 'cache', chunk=4), ColorDataset(SIZE), breaking)
    run_two(worker, str(tmp_path))
    reads = []
    for rank in range(2):
        found = torch.load(tmp_path / f'{rank}.pth', weights_only=True)
        assert torch.equal(found['features'], expected().features)
        reads += found['reads']
    assert sorted(reads) == list(range(4, SIZE))
