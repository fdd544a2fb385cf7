from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from mstkit.datasets import sampling
from mstkit.errors import UsageError
from mstkit.evaluation import EvaluatedNetwork
from mstkit.evaluation.evaluators import linear
from mstkit.evaluation.evaluators.linear import LinearEvaluator, crop_batches, metrics_of
from mstkit.evaluation.protocols.linear_head import load_head
from mstkit.evaluation.protocols.linear_probe import ProbeResult, shuffled_batches, train_heads
from mstkit.evaluation.protocols.linear_recipes import PRESETS
from mstkit.registry import EVALUATORS

from .frozen import COLORS, BrightNetwork, write_images


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('images')
    write_images(root / 'train', dict.fromkeys(COLORS, 8), seed=0)
    write_images(root / 'val', dict.fromkeys(COLORS, 5), seed=1)
    return root


@pytest.fixture
def evaluated(data: Path) -> EvaluatedNetwork:
    return EvaluatedNetwork(BrightNetwork(), data / 'train', data / 'val', batch_size=7, num_workers=0)


@pytest.fixture
def said(monkeypatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(linear, 'print_log', lambda text, **_: lines.append(text))
    return lines


def test_standardized_features_do_not_depend_on_the_scale_of_channels(evaluated: EvaluatedNetwork, monkeypatch) -> None:
    evaluator = EVALUATORS.build(dict(type='linear', preset='mae', epochs=6, rates=[0.1], batch_size=64))
    result, head = evaluator.train(evaluated)
    train, val = (evaluated.bank(split, 1, False) for split in ('train', 'val'))
    mean, std = train.features.mean(dim=0), (train.features.var(dim=0, correction=0) + 1e-6).sqrt()
    bank, judged = (bank._replace(features=(bank.features - mean) / std) for bank in (train, val))
    expected = train_heads(shuffled_batches(bank, judged, 64), judged, (0.025,), epochs=6)
    torch.testing.assert_close(result.top1, expected.top1)
    torch.testing.assert_close(result.loss, expected.loss, rtol=1e-5, atol=1e-6)
    best = judged.features @ expected.weight[0].T + expected.bias[0]
    torch.testing.assert_close(val.features @ head.weight.T + head.bias, best, rtol=1e-4, atol=1e-4)
    kept = EvaluatedNetwork.bank

    def stretched(self, *args):
        bank = kept(self, *args)
        return bank._replace(features=bank.features * 100 + 7)

    monkeypatch.setattr(EvaluatedNetwork, 'bank', stretched)
    torch.testing.assert_close(evaluator.train(evaluated)[0].loss, result.loss, rtol=1e-3, atol=1e-4)


def test_stored_features_go_through_the_probe(evaluated: EvaluatedNetwork, said: list[str]) -> None:
    evaluator = EVALUATORS.build(dict(type='linear', epochs=6, rates=[0.1, 1.0], features='last_mean', batch_size=64))
    evaluator.check(evaluated)
    metrics = evaluator(evaluated)
    train, val = evaluated.bank('train', 1, True), evaluated.bank('val', 1, True)
    result = train_heads(shuffled_batches(train, val, 64), val, (0.025, 0.25), epochs=6)
    assert list(metrics) == [
        'linear_best_top1', 'linear_last_top1', 'linear_best_lr', 'linear_best_epoch', 'linear_diverged',
        'lr0.1/best_top1', 'lr0.1/last_top1', 'lr1/best_top1', 'lr1/last_top1',
    ]  # fmt: skip
    for index, name in enumerate(('0.1', '1')):
        assert metrics[f'lr{name}/best_top1'] == result.top1[:, index].max()
        assert metrics[f'lr{name}/last_top1'] == result.top1[-1, index]
    assert metrics['linear_best_top1'] > 90
    assert isinstance(evaluated.network, BrightNetwork)
    assert evaluated.network.seen == 1 + 24 + 15  # the look at a blank image, and every image once
    assert 'preset sweep, features last_mean, augmentation none, 6 epochs in batches of 64' in said[0]
    assert 'learning rates 0.1, 1 (times 0.25)' in said[0]


def test_metrics_of_hand_made_curves() -> None:
    top1 = torch.tensor([[10, 30, 50, 40], [60, 30, math.nan, 60], [50, 20, math.nan, 55]], dtype=torch.float64)
    result = ProbeResult((1, 2, 3, 0.5), top1, top1, top1 + 20, torch.zeros(4, 6, 2), torch.zeros(4, 6))
    assert metrics_of((0.4, 0.8, 1.2, 0.2), result) == {
        'linear_best_top1': 60, 'linear_last_top1': 55, 'linear_best_top5': 80, 'linear_last_top5': 75,
        'linear_best_lr': 0.2, 'linear_best_epoch': 2, 'linear_diverged': 1,
        'lr0.4/best_top1': 60, 'lr0.4/last_top1': 50, 'lr0.8/best_top1': 30,
        'lr0.8/last_top1': 20, 'lr0.2/best_top1': 60, 'lr0.2/last_top1': 55,
    }  # fmt: skip


def test_presets_are_those_of_the_papers() -> None:
    assert PRESETS['dino'] == ('last4', (0.001,), True, 1024, 100, 'crop', False)
    assert PRESETS['attmask'] == ('last4', (0.005,), True, 2048, 100, 'crop', False)
    assert PRESETS['mst_paper_literal'] == ('last', (0.00024,), False, 1024, 100, 'crop', False)
    assert PRESETS['mae'] == ('last', PRESETS['sweep'].rates, True, 256, 90, 'none', True)
    ibot = PRESETS['ibot'].rates
    assert len(ibot) == 45 and (min(ibot), max(ibot)) == (0.0001, 9.0) and 0.003 in ibot
    assert LinearEvaluator('dino', epochs=3, rates=0.5).protocol == ('last4', (0.5,), True, 1024, 3, 'crop', False)


def test_the_literal_preset_is_not_scaled(evaluated: EvaluatedNetwork, said: list[str]) -> None:
    evaluator = LinearEvaluator('mst_paper_literal', epochs=2)
    result, head = evaluator.train(evaluated)
    assert result.rates == (0.00024,)
    assert head.features == 'last' and head.weight.shape == (3, 3)
    assert 'preset mst_paper_literal' in said[0] and '0.00024 (as given, whatever the batch size)' in said[0]
    assert LinearEvaluator('dino', epochs=1, augmentation='none').train(evaluated)[0].rates == (0.004,)


def test_crops_are_new_in_every_epoch_and_the_same_in_every_run(evaluated: EvaluatedNetwork) -> None:
    batches = crop_batches(evaluated, (1, False), 10, 2)
    first, second, again = list(batches(0)), list(batches(1)), list(crop_batches(evaluated, (1, False), 10, 2)(0))
    assert [len(labels) for _, labels in first] == [10, 10, 4]
    for group in (first, second):
        assert torch.cat([labels for _, labels in group]).bincount().tolist() == [8, 8, 8]
    rows = [torch.cat([features for features, _ in group]) for group in (first, second, again)]
    assert torch.equal(rows[0], rows[2])
    assert not torch.isclose(rows[0][:, None], rows[1][None]).all(dim=2).any()
    assert not any(feature.requires_grad for feature in rows)


def test_training_on_crops(evaluated: EvaluatedNetwork) -> None:
    evaluator = LinearEvaluator('dino', rates=[3.0, 10.0], epochs=4, batch_size=8)
    metrics = evaluator(evaluated)
    assert isinstance(evaluated.network, BrightNetwork)
    assert evaluated.network.seen == 15 + 4 * 24
    assert metrics['linear_best_top1'] > 60
    assert not {'lr0.001/best_top1'} & set(metrics)


def test_the_written_head_has_the_accuracy_that_was_told(evaluated: EvaluatedNetwork, tmp_path) -> None:
    evaluator = LinearEvaluator(epochs=5, rates=[0.3, 2.0], save=str(tmp_path / '{network}.pth'))
    evaluator.check(evaluated)
    metrics = evaluator(evaluated)
    head = load_head(tmp_path / 'bright.pth')
    head.check(evaluated.network, evaluated.classes())
    val = evaluated.bank('val', 4)
    accuracy = 100 * float((head.logits(val.features).argmax(dim=1) == val.labels).double().mean())
    assert accuracy == pytest.approx(metrics['linear_best_top1'])
    assert head.features == 'last4'


def test_two_networks_do_not_share_a_file(evaluated: EvaluatedNetwork, data: Path, tmp_path) -> None:
    other = EvaluatedNetwork(BrightNetwork('second', fingerprint='0' * 64), data / 'train', data / 'val', num_workers=0)
    evaluator = LinearEvaluator(save=str(tmp_path / 'head.pth'))
    evaluator.check(evaluated)
    evaluator.check(evaluated)
    with pytest.raises(UsageError, match=r'\{network\}'):
        evaluator.check(other)
    apart = LinearEvaluator(save=str(tmp_path / '{network}.pth'))
    apart.check(evaluated)
    apart.check(other)


def test_features_that_the_network_does_not_have(evaluated: EvaluatedNetwork, monkeypatch) -> None:
    def features(images, last_blocks, mean_patch):
        raise UsageError(f'last_blocks is {last_blocks}; there are two.')

    monkeypatch.setattr(evaluated.network, 'features', features)
    with pytest.raises(
        UsageError, match=r"linear\.features is 'last4', but last_blocks is 4; .*also last, last_mean, last4_mean"
    ):
        LinearEvaluator().check(evaluated)


def test_rates_that_diverge_are_counted_and_said(evaluated: EvaluatedNetwork, said: list[str]) -> None:
    metrics = LinearEvaluator(epochs=3, rates=[0.5, 2e38], batch_size=256)(evaluated)
    assert metrics['linear_diverged'] == 1
    assert 'lr0.5/best_top1' in metrics and 'lr2e+38/best_top1' not in metrics
    assert said[-1].endswith('1 of 2 learning rates diverged and are left out: 2e+38')
    assert all(math.isfinite(value) for value in metrics.values())


def test_unreadable_train_images_are_said_once(tmp_path, monkeypatch) -> None:
    write_images(tmp_path / 'train', dict.fromkeys(COLORS, 4))
    write_images(tmp_path / 'val', dict.fromkeys(COLORS, 2))
    (tmp_path / 'train' / 'red' / '001.png').write_bytes(b'broken')
    lines: list[tuple[list[str], str]] = []
    monkeypatch.setattr(linear, 'log_replaced', lambda paths, what: lines.append((paths, what)))
    evaluated = EvaluatedNetwork(BrightNetwork(), tmp_path / 'train', tmp_path / 'val', batch_size=7, num_workers=0)
    LinearEvaluator('dino', epochs=3)(evaluated)
    ((paths, what),) = lines
    assert [Path(path).name for path in paths] == ['001.png'] and what == 'linear probe of bright'


@pytest.mark.parametrize(
    ('settings', 'says'),
    [
        (dict(preset='dyno'), 'Did you mean dino'),
        (dict(features='last3'), 'last4_mean'),
        (dict(rates=[0.1, -1]), 'above 0'),
        (dict(rates=[]), r'linear.rates \(learning rates\) is \[\]: give a list of at least one'),
        (dict(epochs=0), 'linear.epochs is 0'),
        (dict(batch_size=1.5), 'linear.batch_size is 1.5'),
        (dict(augmentation='flip'), "'none' or 'crop'"),
    ],
)
def test_settings_out_of_range(settings: dict, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        LinearEvaluator(**settings)


def test_two_ranks_see_what_one_process_sees(data: Path, monkeypatch) -> None:
    def subject_with(batch_size: int) -> EvaluatedNetwork:
        return EvaluatedNetwork(BrightNetwork(), data / 'train', data / 'val', batch_size=batch_size, num_workers=0)

    alone = list(crop_batches(subject_with(6), (2, False), 10, 1)(0))
    shares = []
    for rank in (0, 1):
        monkeypatch.setattr(sampling, 'get_dist_info', lambda rank=rank: (rank, 2))
        shares.append(list(crop_batches(subject_with(3), (2, False), 3, 1)(0)))
    # Rank 0 again, with what the other one would send: features, then labels, of each batch.
    answers = iter([[shares[0][i][part], shares[1][i][part]] for i in range(len(shares[0])) for part in (0, 1)])
    monkeypatch.setattr(sampling, 'get_dist_info', lambda: (0, 2))
    monkeypatch.setattr(linear.dist, 'get_world_size', lambda: 2)
    monkeypatch.setattr(linear.dist, 'all_gather', lambda own: next(answers))
    together = list(crop_batches(subject_with(3), (2, False), 10, 1)(0))
    assert len(together) == len(alone) == 3
    for (features, labels), (their_features, their_labels) in zip(alone, together, strict=True):
        torch.testing.assert_close(features, their_features)
        assert torch.equal(labels, their_labels)


def test_a_rate_chosen_on_held_out_images_does_not_depend_on_the_val_images(data: Path, said: list[str]) -> None:
    """Labels of val are mixed up: another accuracy, the same learning rate, the same weights."""
    settings = dict(type='linear', epochs=8, rates=[1e-7, 1.0], features='last', batch_size=8, held_out=0.25)
    evaluated = [EvaluatedNetwork(BrightNetwork(), data / 'train', data / 'val', num_workers=0) for _ in range(2)]
    bank = evaluated[1].bank('val', 1, False)
    evaluated[1]._banks['val', 1, False] = bank._replace(labels=bank.labels.roll(5))
    first, mixed = (EVALUATORS.build(settings).judge(one) for one in evaluated)
    assert first.metrics['linear_lr'] == mixed.metrics['linear_lr'] == pytest.approx(1.0)
    assert first.metric == 'linear_last_top1' and list(first.metrics) == ['linear_last_top1', 'linear_lr']
    assert first.metrics['linear_last_top1'] == 100 * first.hits.float().mean() > 90
    assert mixed.metrics['linear_last_top1'] == 100 * mixed.hits.float().mean() < 50
    assert any('learning rate 1, ' in line and 'on 6 held-out train images' in line for line in said)


def test_hits_are_those_of_the_last_epoch_of_the_best_rate(evaluated: EvaluatedNetwork) -> None:
    evaluator = LinearEvaluator(epochs=5, rates=[1e-4, 0.5], features='last', batch_size=64)
    judged = evaluator.judge(evaluated)
    assert judged.metrics == evaluator(evaluated)
    assert 100 * judged.hits.double().mean() == judged.metrics['linear_last_top1']


@pytest.mark.parametrize('more', [dict(save='head.pth'), dict(preset='dino')])
def test_held_out_images_go_with_stored_features_alone(more: dict) -> None:
    with pytest.raises(UsageError, match=r'linear\.held_out is 0\.2'):
        LinearEvaluator(held_out=0.2, **more)
