"""Keys and the order of samples: a function of seed and epoch, of nothing else."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from mmengine.dataset import BaseDataset, ConcatDataset, RepeatDataset
from torch.utils.data import DataLoader

from mstkit.datasets import EpochSampler, SampleKey
from mstkit.datasets import sampling as sampling_module
from mstkit.errors import UsageError


def sampler_of_rank(monkeypatch, rank: int, world_size: int, size: int, **options) -> EpochSampler:
    monkeypatch.setattr(sampling_module, 'get_dist_info', lambda: (rank, world_size))
    return EpochSampler(range(size), **options)


def test_key_is_an_index_and_travels():
    key = SampleKey(7, epoch=3, seed=11)
    assert key == 7 and list(range(9))[key] == 7 and isinstance(key, int)
    for other in (pickle.loads(pickle.dumps(key)), copy.deepcopy(key), copy.copy(key)):
        assert (int(other), other.epoch, other.seed, other.origin) == (7, 3, 11, 7)
    plain = SampleKey.of(7)
    assert (plain.epoch, plain.seed) == (0, 0) and SampleKey.of(key) is key


def test_generator_depends_on_every_part_of_the_key_and_on_nothing_else():
    draws = {
        SampleKey(index, epoch, seed).generator(stream).random(4).tobytes()
        for index in range(4)
        for epoch in range(4)
        for seed in range(4)
        for stream in (0, 1, 'view 0', 'view 1')
    }
    assert len(draws) == 4**4
    np.random.seed(0)
    first = SampleKey(1, 2, 3).generator('a').random(8)
    np.random.seed(1)
    np.testing.assert_array_equal(first, SampleKey(1, 2, 3).generator('a').random(8))


def test_generator_is_pinned():
    """A change of these numbers would break the repeatability of published runs."""
    words = SampleKey(5, epoch=2, seed=9).generator('view 0').bit_generator.random_raw(2)
    reference = np.random.Philox(
        key=np.array([9, 5], np.uint64), counter=np.array([0, 0, sampling_module._stream_word('view 0'), 2], np.uint64)
    )
    np.testing.assert_array_equal(words, reference.random_raw(2))
    assert sampling_module._stream_word('view 0') == 16173209468832684307
    assert EpochSampler(range(8), seed=1).order().tolist() == [5, 0, 4, 3, 6, 2, 7, 1]


def test_streams_of_neighbors_are_uncorrelated():
    values = np.array([SampleKey(i).generator('x').random(8) for i in range(2000)])
    assert abs(values.mean() - 0.5) < 0.01
    correlation = np.corrcoef(np.concatenate([values[:-1], values[1:]], axis=1).T)
    assert np.abs(correlation - np.eye(16)).max() < 0.1


def test_every_sample_once_and_a_new_order_each_epoch():
    sampler = EpochSampler(range(101), seed=3)
    orders = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        keys = list(sampler)
        assert sorted(keys) == list(range(101)) and len(sampler) == 101
        assert {(key.epoch, key.seed) for key in keys} == {(epoch, 3)}
        orders.append([int(key) for key in keys])
    assert orders[0] != orders[1] != orders[2]
    sampler.set_epoch(0)
    assert list(sampler) == orders[0]
    assert list(EpochSampler(range(101), seed=4)) != orders[0]
    assert list(EpochSampler(range(5), shuffle=False)) == [0, 1, 2, 3, 4]


def test_order_is_uniform():
    sampler = EpochSampler(range(5), seed=0)
    counts = np.zeros((5, 5))
    for epoch in range(2000):
        sampler.set_epoch(epoch)
        counts[np.arange(5), sampler.order()] += 1
    assert np.abs(counts / 2000 - 0.2).max() < 0.04  # 4.5 standard deviations


@pytest.mark.parametrize('world_size', [2, 3, 4])
@pytest.mark.parametrize('size', [48, 53, 59])
def test_global_batches_do_not_depend_on_the_world_size(monkeypatch, world_size, size):
    per_rank = 2

    def batches(rank, ranks, batch_size):
        sampler = sampler_of_rank(monkeypatch, rank, ranks, size, seed=5)
        sampler.set_epoch(4)
        loader: DataLoader[int] = DataLoader(
            range(size), batch_size=batch_size, sampler=sampler, drop_last=True, collate_fn=list
        )
        return list(loader)

    single = batches(0, 1, per_rank * world_size)
    ranks = [batches(rank, world_size, per_rank) for rank in range(world_size)]
    assert [len(b) for b in ranks] == [len(single)] * world_size
    for step, batch in enumerate(single):
        assert sorted(batch) == sorted(index for rank in ranks for index in rank[step])


@pytest.mark.parametrize('round_up', [False, True])
def test_uneven_sizes(monkeypatch, round_up):
    parts = [list(sampler_of_rank(monkeypatch, r, 4, 10, seed=0, round_up=round_up)) for r in range(4)]
    assert {len(part) for part in parts} == {3 if round_up else 2}
    seen = [int(index) for part in parts for index in part]
    assert set(seen) == set(range(10)) if round_up else len(set(seen)) == 8


@pytest.mark.parametrize('start', [0, 3, 25, 26])
def test_resume_in_the_middle_of_an_epoch(monkeypatch, start):
    sampler = sampler_of_rank(monkeypatch, 1, 2, 53, seed=1)
    sampler.set_epoch(6)
    whole = [(int(k), k.epoch) for k in sampler]
    sampler.set_epoch(6, start=start)
    assert [(int(k), k.epoch) for k in sampler] == whole[start:]
    assert len(sampler) == 26
    sampler.set_epoch(7)
    assert len(list(sampler)) == 26


def test_mistakes(monkeypatch):
    with pytest.raises(UsageError, match='4 processes'):
        sampler_of_rank(monkeypatch, 0, 4, 3)
    with pytest.raises(UsageError, match='sample 9'):
        sampler_of_rank(monkeypatch, 0, 2, 10).set_epoch(0, start=9)


class Numbers(BaseDataset):
    def load_data_list(self):
        return [dict(value=i) for i in range(5)]


def test_keys_survive_mmengines_wrappers():
    def numbers():
        return Numbers(serialize_data=False, pipeline=[])

    repeated = RepeatDataset(numbers(), times=3)
    joined = ConcatDataset([numbers(), numbers()])
    for dataset, index in ((repeated, 12), (joined, 7)):
        results = dataset[SampleKey(index, epoch=2, seed=8)]
        assert results['value'] == 2
        key = results['sample_idx']
        assert (int(key), key.epoch, key.seed) == (2, 2, 8)
        np.testing.assert_array_equal(key.generator().random(3), SampleKey(index, 2, 8).generator().random(3))


def test_the_kept_generator_gives_the_numbers_of_a_new_one():
    used = SampleKey(1).kept_generator('a')
    used.random(7)
    used.integers(5)  # leaves half a word behind
    key = SampleKey(2**40, epoch=2, seed=-3)
    with ThreadPoolExecutor(1) as other:
        assert other.submit(key.kept_generator, 'view 1').result() is not used
    assert key.kept_generator('view 1') is used
    fresh = key.generator('view 1')
    assert used.integers(1000, size=9).tolist() == fresh.integers(1000, size=9).tolist()
    assert used.random(9).tolist() == fresh.random(9).tolist()
    assert used.permutation(9).tolist() == fresh.permutation(9).tolist()
