"""No array file of a cache, of unfinished features or of hits runs anything: objects in them are refused unread."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mstkit.embedding.part_files import PartFiles
from mstkit.errors import UsageError
from mstkit.evaluation import FeatureCache
from mstkit.evaluation.image_hits import read_hits

from .evaluation.fakes import ColorDataset
from .evaluation.test_feature_cache import bank_of, entry_of
from .test_untrusted_files import CANARY, Attack


def objects() -> np.ndarray:
    array = np.empty(4, dtype=object)
    array[:] = [Attack() for _ in array]
    return array


def a_cached_array(name: str) -> Callable[[Path], object]:
    def read(folder: Path) -> object:
        cache = FeatureCache(folder / 'cache')
        bank_of(cache, ColorDataset(4))
        np.save(entry_of(cache) / name, objects(), allow_pickle=True)
        return bank_of(cache, ColorDataset(4))

    return read


def an_unfinished_cache(folder: Path) -> object:
    cache, dataset = FeatureCache(folder / 'cache', chunk=2), ColorDataset(4)
    broken = [0]

    def encode(images):
        broken[0] += 1
        if broken[0] == 2:
            raise InterruptedError
        return images.flatten(1)

    with pytest.raises(InterruptedError):
        bank_of(cache, dataset, encode)
    [part] = entry_of(cache).glob('*.npz')
    np.savez(part, features=objects(), labels=objects(), replaced=objects())
    return bank_of(cache, dataset)


def a_part_of_features(folder: Path) -> object:
    parts = PartFiles(folder / 'features.npz', dict(network='a'))
    parts.folder.mkdir()
    np.savez(parts.folder / f'{0:010d}-{4:010d}.npz', features=objects(), labels=objects(), files=objects())
    return list(parts.read())


def hits(folder: Path) -> object:
    np.savez(folder / 'hits.npz', images=objects(), hits=objects(), count=objects(), metric=objects())
    return read_hits(folder / 'hits.npz')


READERS = dict(
    features=a_cached_array('features.npy'),
    labels=a_cached_array('labels.npy'),
    chunk=an_unfinished_cache,
    part=a_part_of_features,
    hits=hits,
)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_attack_works_where_nobody_looks(tmp_path):
    np.save(tmp_path / 'a.npy', objects(), allow_pickle=True)
    with pytest.raises(FileExistsError):  # the first of the four has made it
        np.load(tmp_path / 'a.npy', allow_pickle=True)
    assert (tmp_path / CANARY).is_dir()


@pytest.mark.parametrize('name', READERS)
def test_objects_in_an_array_file_are_refused(name, tmp_path):
    with pytest.raises(UsageError, match='remove'):
        READERS[name](tmp_path)
    assert not (tmp_path / CANARY).exists()
