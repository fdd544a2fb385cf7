from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing
from torch.utils.data import DataLoader, DistributedSampler, Subset

from mstkit.errors import UsageError
from mstkit.evaluation import (
    PooledEncoder,
    evaluation_mode,
    extract_features,
    feature_loader,
    undisturbed_randomness,
)

from ..two_processes import TwoProcesses
from .fakes import ColorDataset, FakeBackbone


def preprocess(batch: dict) -> torch.Tensor:
    return batch['inputs'].float() / 255


def mean_color(images: torch.Tensor) -> torch.Tensor:
    return images.mean(dim=(2, 3))


def test_features_are_in_file_order_with_labels_and_classes() -> None:
    dataset = ColorDataset(13)
    found = extract_features(mean_color, feature_loader(dataset, 4), 'cpu', preprocess, 'test')
    expected = torch.stack([dataset[index]['inputs'].float().mean(dim=(1, 2)) / 255 for index in range(13)])
    torch.testing.assert_close(found.features, expected)
    assert found.features.dtype == torch.float32
    assert found.labels.tolist() == [index % 3 for index in range(13)]
    assert found.classes == ('color 0', 'color 1', 'color 2')


def test_several_encoders_share_one_pass() -> None:
    dataset = ColorDataset(7)
    loader = feature_loader(dataset, 3)
    found = extract_features({'a': mean_color, 'b': lambda x: x.flatten(1)}, loader, 'cpu', preprocess, 'test')
    assert dataset.reads == list(range(7))
    assert found['a'].features.shape == (7, 3) and found['b'].features.shape == (7, 192)
    alone = extract_features(mean_color, loader, 'cpu', preprocess, 'test')
    assert torch.equal(found['a'].features, alone.features)


def test_training_is_left_as_it_was() -> None:
    backbone = FakeBackbone()
    backbone.train()
    backbone.drop.training = False  # a part in another mode than the whole
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    found = extract_features(PooledEncoder(backbone), feature_loader(ColorDataset(9), 4), 'cpu', preprocess, 'test')
    assert [part.training for part in backbone.modules()] == [True, True, True, False]
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())
    # In evaluation mode the batch size cannot matter.
    again = extract_features(PooledEncoder(backbone), feature_loader(ColorDataset(9), 1), 'cpu', preprocess, 'test')
    torch.testing.assert_close(found.features, again.features)
    assert not found.features.requires_grad


def test_modes_come_back_after_an_error() -> None:
    backbone = FakeBackbone()
    with pytest.raises(ZeroDivisionError), evaluation_mode(backbone):
        assert not backbone.norm.training
        raise ZeroDivisionError
    assert backbone.training and backbone.norm.training


def test_randomness_is_undisturbed() -> None:
    torch.manual_seed(3), np.random.seed(3), random.seed(3)
    expected = (torch.rand(2).tolist(), np.random.rand(2).tolist(), random.random())
    torch.manual_seed(3), np.random.seed(3), random.seed(3)
    with undisturbed_randomness():
        torch.rand(5), np.random.rand(5), random.random()
    assert (torch.rand(2).tolist(), np.random.rand(2).tolist(), random.random()) == expected


def test_loader_does_not_move_the_global_generator() -> None:
    before = torch.get_rng_state()
    extract_features(mean_color, feature_loader(ColorDataset(5), 2), 'cpu', preprocess, 'test')
    assert torch.equal(before, torch.get_rng_state())


def test_padding_counts_once() -> None:
    class Padded(torch.utils.data.Sampler):
        def __iter__(self):
            return iter([0, 1, 2, 3, 4, 0, 1])

        def __len__(self) -> int:
            return 7

    dataset = ColorDataset(5)
    loader = DataLoader(dataset, 3, sampler=Padded(), collate_fn=feature_loader(dataset).collate_fn)
    found = extract_features(mean_color, loader, 'cpu', preprocess, 'test')
    expected = extract_features(mean_color, feature_loader(dataset, 3), 'cpu', preprocess, 'test')
    assert torch.equal(found.features, expected.features) and torch.equal(found.labels, expected.labels)


@pytest.mark.parametrize('settings', [{'shuffle': True}, {'drop_last': True}])
def test_unordered_loaders_are_refused(settings: dict) -> None:
    dataset = ColorDataset(20)
    loader = DataLoader(dataset, 3, collate_fn=feature_loader(dataset).collate_fn, **settings)
    with pytest.raises(UsageError, match='keeps the order'):
        extract_features(mean_color, loader, 'cpu', preprocess, 'test')
    sampler: DistributedSampler[Any] = DistributedSampler(dataset, num_replicas=1, rank=0, shuffle=True)
    with pytest.raises(UsageError, match='keeps the order'):
        extract_features(mean_color, DataLoader(dataset, 3, sampler=sampler), 'cpu', preprocess, 'test')


@pytest.mark.parametrize('wrap', [lambda data: data, lambda data: Subset(data, [1, 2])])
def test_unlabeled_data_is_refused(wrap) -> None:
    with pytest.raises(UsageError, match='no labels'):
        extract_features(mean_color, feature_loader(wrap(ColorDataset(4, labeled=False))), 'cpu', preprocess, 'test')


def test_empty_data_is_refused() -> None:
    with pytest.raises(UsageError, match='no images'):
        extract_features(mean_color, feature_loader(ColorDataset(0)), 'cpu', preprocess, 'test')


def test_label_without_a_class_name_is_refused() -> None:
    class Named(list):
        metainfo: dict

    samples = Named(ColorDataset(6, classes=3)[index] for index in range(6))
    samples.metainfo = {'classes': ('a', 'b')}
    with pytest.raises(UsageError, match='labels from 0 to 2, but names 2 classes'):
        extract_features(mean_color, feature_loader(samples), 'cpu', preprocess, 'test')
    samples.metainfo = {}
    found = extract_features(mean_color, feature_loader(samples), 'cpu', preprocess, 'test')
    assert found.classes == ('0', '1', '2')


SIZES = (13, 1)  # uneven, and fewer images than processes


def worker(rank: int, folder: str) -> None:
    for size in SIZES:
        dataset = ColorDataset(size)
        encoders = {'a': mean_color, 'b': lambda x: x.flatten(1)}
        found = extract_features(encoders, feature_loader(dataset, 2), 'cpu', preprocess, 'test')
        torch.save(
            {'a': found['a'].features, 'b': found['b'].features, 'labels': found['a'].labels, 'reads': dataset.reads},
            f'{folder}/{size}_{rank}.pth',
        )


def test_two_processes_equal_one(run_two: TwoProcesses, tmp_path: Path) -> None:
    run_two(worker, str(tmp_path))
    for size in SIZES:
        loader = feature_loader(ColorDataset(size))
        expected = extract_features(lambda x: x.flatten(1), loader, 'cpu', preprocess, 'test')
        reads = []
        for rank in range(2):
            found = torch.load(tmp_path / f'{size}_{rank}.pth', weights_only=True)
            assert torch.equal(found['b'], expected.features)
            assert torch.equal(found['labels'], expected.labels)
            assert found['a'].shape == (size, 3)
            reads += found['reads']
        assert sorted(reads) == list(range(size))
