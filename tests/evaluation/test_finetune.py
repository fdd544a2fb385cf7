"""Fine-tuning of a whole network, and the files of which images are right."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from mstkit.errors import UsageError
from mstkit.evaluation import EvaluatedNetwork, KNNEvaluator, knn_accuracy
from mstkit.evaluation.evaluators import FineTuneEvaluator
from mstkit.evaluation.image_hits import ImageHits, JudgesImages, names_of_images, read_hits, write_hits
from mstkit.evaluation.protocols.fine_tuning import Classifier, FineTuningRecipe, first_of_each_class, rate_factor
from mstkit.evaluation.protocols.weighted_knn import knn_hits
from mstkit.networks import Network, open_networks

from .checkpoints import save_checkpoint
from .evaluated_networks import make_folders


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    return make_folders(tmp_path_factory.mktemp('data'), train=12, val=4)


@pytest.fixture(scope='module')
def network(tmp_path_factory) -> Network:
    return open_networks(str(save_checkpoint(tmp_path_factory.mktemp('run') / 'epoch_1.pth')), 'student')[0]


def evaluated_of(network: Network, data: Path, seed: int = 0) -> EvaluatedNetwork:
    return EvaluatedNetwork(network, data / 'train', data / 'val', seed=seed, num_workers=0)


def test_the_whole_network_learns_and_the_frozen_one_stays(network, data):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    evaluator = FineTuneEvaluator(epochs=6, rate=2e-3, batch_size=8)
    judged = evaluator.judge(evaluated_of(network, data))
    assert judged.metric == 'finetune_top1' and judged.metrics['finetune_images'] == 36
    assert judged.metrics['finetune_top1'] == 100 * judged.hits.double().mean() > 60, 'of three classes'
    assert judged.metrics['finetune_loss'] < math.log(3)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(one.requires_grad for one in network.parameters())
    again = FineTuneEvaluator(epochs=6, rate=2e-3, batch_size=8).judge(evaluated_of(network, data))
    assert again.metrics == judged.metrics and torch.equal(again.hits, judged.hits), 'the same seed, the same numbers'
    other = evaluator.judge(evaluated_of(network, data, seed=1))
    assert other.metrics['finetune_loss'] != judged.metrics['finetune_loss']


def test_blocks_have_their_rates(network, data):
    features = evaluated_of(network, data).bank('train').features
    model = Classifier(network, features, 3)
    recipe = FineTuningRecipe(rate=1.0, layer_decay=0.5, weight_decay=0.3, head_factor=7.0)
    groups = {id(group['params'][0]): group for group in model.parameter_groups(recipe)}
    assert len(groups) == len(list(model.parameters())), 'each parameter once'
    blocks = len(network.blocks)
    for place, block in enumerate(model.network.blocks):
        rates = {groups[id(parameter)]['rate'] for parameter in block.module.parameters()}
        assert rates == {0.5 ** (blocks - 1 - place)}
    of_name = {name: groups[id(parameter)] for name, parameter in model.named_parameters()}
    assert of_name['head.weight']['rate'] == 7 and of_name['head.bias']['weight_decay'] == 0
    embedding = next(group for name, group in of_name.items() if 'patch_embed' in name and name.endswith('weight'))
    assert embedding['rate'] == 0.5**blocks and embedding['weight_decay'] == 0.3
    tokens = [group for name, group in of_name.items() if name.endswith(('cls_token', 'pos_embed'))]
    assert tokens and all(group['weight_decay'] == 0 for group in tokens)


def test_the_rate_rises_and_falls():
    factors = [rate_factor(step, 20, 0.2) for step in range(20)]
    assert factors[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert factors[4:] == sorted(factors[4:], reverse=True) and 0 < factors[-1] < 0.02
    assert rate_factor(0, 1, 0.0) == 1


def test_the_first_images_of_each_class():
    labels = torch.tensor([0, 0, 0, 2, 2, 1])
    assert first_of_each_class(labels, 2) == [0, 1, 3, 4, 5]
    assert first_of_each_class(labels, None) is None


def test_fewer_images_are_trained_on(network, data):
    judged = FineTuneEvaluator(epochs=1, per_class=2).judge(evaluated_of(network, data))
    assert judged.metrics['finetune_images'] == 6


@pytest.mark.parametrize('setting', [dict(epochs=0), dict(rate=0), dict(layer_decay=1.5), dict(per_class=0)])
def test_settings_out_of_range_are_named(setting):
    with pytest.raises(UsageError, match=f'finetune.{next(iter(setting))}'):
        FineTuneEvaluator(**setting)


def test_hits_of_knn_are_its_accuracy(network, data):
    evaluated = evaluated_of(network, data)
    train, val = evaluated.bank('train'), evaluated.bank('val')
    hits = knn_hits(train, val, (3, 10))
    assert {name: 100.0 * int(rows.sum()) / 12 for name, rows in hits.items()} == knn_accuracy(train, val, (3, 10))
    judged = KNNEvaluator(ks=(3, 10)).judge(evaluated)
    assert judged.metric == 'k10_top1' and torch.equal(judged.hits, hits['k10_top1'])
    assert isinstance(KNNEvaluator(), JudgesImages)
    # By hand: one neighbor votes alone.
    near = torch.nn.functional.normalize(val.features) @ torch.nn.functional.normalize(train.features).T
    assert torch.equal(knn_hits(train, val, (1,))['k1_top1'], train.labels[near.argmax(dim=1)] == val.labels)


def test_a_file_of_hits(network, data, tmp_path):
    images = names_of_images(evaluated_of(network, data))
    assert images[:2] == ('dark/00.png', 'dark/01.png') and len(images) == 12
    hits = np.arange(12) % 5 == 0
    write_hits(tmp_path / 'knn.npz', ImageHits(images, hits, 'k20_top1'))
    found = read_hits(tmp_path / 'knn.npz')
    assert (found.images, found.metric) == (images, 'k20_top1') and np.array_equal(found.hits, hits)
    assert found.accuracy == 25.0
    (tmp_path / 'knn.npz').write_bytes((tmp_path / 'knn.npz').read_bytes()[:90])
    for name in ('knn.npz', 'none.npz'):
        with pytest.raises(UsageError, match=f'{name} is no file of hits'):
            read_hits(tmp_path / name)
