from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mstkit.errors import UsageError
from mstkit.evaluation import EvaluatedNetwork, knn_accuracy
from mstkit.evaluation.evaluators.masked_images import RATIOS, MaskedImagesEvaluator
from mstkit.evaluation.protocols.hidden_tokens import random_orders
from mstkit.evaluation.protocols.linear_head import LinearHead
from mstkit.registry import EVALUATORS
from mstkit.structures import FeatureBank

from .frozen import COLORS, BrightNetwork, write_images


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('images')
    write_images(root / 'train', dict.fromkeys(COLORS, 6), seed=0)
    write_images(root / 'val', dict.fromkeys(COLORS, 5), seed=1)
    return root


def evaluated_of(data: Path, network: BrightNetwork | None = None, batch_size: int = 4) -> EvaluatedNetwork:
    return EvaluatedNetwork(
        network or BrightNetwork(), data / 'train', data / 'val', batch_size=batch_size, num_workers=0
    )


@pytest.fixture
def head() -> LinearHead:
    """The class is the strongest channel: blue, green, red of RGB."""
    return LinearHead(torch.eye(3).flip(0), torch.zeros(3), tuple(COLORS), 'last', 'f' * 64, 'bright')


def hidden_by_loops(image: torch.Tensor, tokens: list[int], network: BrightNetwork) -> torch.Tensor:
    image, side = image.clone(), image.shape[2] // 8
    for token in tokens:
        y, x = 8 * (token // side), 8 * (token % side)
        for channel in range(3):
            image[channel, y : y + 8, x : x + 8] = -network.mean[channel] / network.std[channel]
    return image


def expected_features(evaluated: EvaluatedNetwork, order: str, ratio: float) -> FeatureBank:
    """One image at a time, by the definition."""
    network = evaluated.network
    features: list[torch.Tensor] = []
    labels: list[int] = []
    assert isinstance(network, BrightNetwork)
    index = 0
    for batch in evaluated.loader('val'):
        for image, sample in zip(evaluated.preprocess(batch), batch['data_samples'], strict=True):
            looks = network.attention(image[None])[0]
            looks = (looks + looks**2) / 2  # the two heads of the fake
            tokens = looks.argsort(descending=order == 'salient', stable=True).tolist()
            if order == 'random':
                tokens = random_orders([index], 16, evaluated.seed)[0].tolist()
            features.append(network.features(hidden_by_loops(image, tokens[: int(16 * ratio)], network)[None])[0])
            labels.append(int(sample.gt_label))
            index += 1
    return FeatureBank(torch.stack(features), torch.tensor(labels), evaluated.classes())


@pytest.mark.parametrize('with_head', [True, False])
def test_accuracies_equal_a_plain_loop(data: Path, head: LinearHead, with_head: bool) -> None:
    evaluated = evaluated_of(data)
    ratios = (0, 0.1, 0.5, 0.9)
    evaluator = MaskedImagesEvaluator(head if with_head else None, ratios, k=3)
    evaluator.check(evaluated)
    metrics = evaluator(evaluated)
    expected = {}
    for order in ('salient', 'random', 'least'):
        for ratio in ratios:
            bank = expected_features(evaluated, order, ratio)
            right = (head.logits(bank.features).argmax(dim=1) == bank.labels).double().mean()
            by_neighbors = knn_accuracy(evaluated.bank('train'), bank, (3,))['k3_top1']
            expected[f'masked_{order}_{ratio:g}_top1'] = 100 * float(right) if with_head else by_neighbors
    assert metrics == pytest.approx(expected)
    assert list(metrics) == list(expected)
    assert evaluator.headlines() == [f'masked_{order}_0.5_top1' for order in ('salient', 'random', 'least')]
    # The bright square tells the class: hidden first it is gone, hidden last it stays.
    assert metrics['masked_salient_0_top1'] == 100 == metrics['masked_least_0.5_top1']
    assert metrics['masked_salient_0.5_top1'] < 60


def test_the_batch_size_changes_nothing(data: Path, head: LinearHead) -> None:
    results = [MaskedImagesEvaluator(head)(evaluated_of(data, batch_size=size)) for size in (1, 4, 15)]
    assert results[0] == results[1] == results[2]
    assert len(results[0]) == 3 * len(RATIOS)


def test_a_guide_with_another_normalization_and_size(data: Path, head: LinearHead) -> None:
    twin = BrightNetwork('twin')
    twin.mean, twin.std = (10.0, 20.0, 30.0), (200.0, 100.0, 90.0)
    own = MaskedImagesEvaluator(head)(evaluated_of(data))
    assert MaskedImagesEvaluator(head, guide=twin)(evaluated_of(data)) == own
    larger = MaskedImagesEvaluator(head, guide=BrightNetwork('larger', size=64), ratios=[0, 0.3, 0.5])
    larger.check(evaluated_of(data))
    metrics = larger(evaluated_of(data))
    assert metrics['masked_salient_0_top1'] == 100 == metrics['masked_least_0.5_top1']
    assert metrics['masked_salient_0.5_top1'] < 60


def test_the_head_may_be_a_file(data: Path, head: LinearHead, tmp_path) -> None:
    head.save(tmp_path / 'bright.pth')
    evaluator = EVALUATORS.build(
        dict(type='masked_images', head=str(tmp_path / '{network}.pth'), ratios=[0.2], orders=['least'])
    )
    evaluator.check(evaluated_of(data))
    assert evaluator(evaluated_of(data)) == MaskedImagesEvaluator(head, 0.2, 'least')(evaluated_of(data))


def test_mistakes(data: Path, head: LinearHead) -> None:
    for settings, says in (
        (dict(ratios=[0.5, 1.5]), r'ratios\[1\] is 1.5: give a number in \[0, 1\]'),
        (dict(ratios=[]), r'ratios is \[\]'),
        (dict(orders=['salient', 'most']), "orders.* is 'most': give 'salient', 'random' or 'least'"),
        (dict(guide='timm:vit'), 'open_networks'),
        (dict(k=0), 'masked_images.k is 0'),
        (dict(temperature=0), 'temperature is 0'),
    ):
        with pytest.raises(UsageError, match=says):
            MaskedImagesEvaluator(head, **settings)
    with pytest.raises(UsageError, match='trained on bright'):
        MaskedImagesEvaluator(head).check(evaluated_of(data, BrightNetwork('x', fingerprint='0')))
    with pytest.raises(UsageError, match='such as'):
        MaskedImagesEvaluator(head._replace(classes=('a', 'b', 'c'))).check(evaluated_of(data))
    with pytest.raises(UsageError, match='5 x 5 patches, which does not divide the 32'):
        MaskedImagesEvaluator(head, guide=BrightNetwork('odd', size=40)).check(evaluated_of(data))
