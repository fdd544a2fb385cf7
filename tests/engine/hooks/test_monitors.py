from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from mstkit.engine.hooks import CollapseMonitorHook, NonFiniteLossError, PanelHook
from mstkit.errors import UsageError
from mstkit.evaluation import PooledEncoder, effective_rank, evaluation_mode, feature_deviation
from mstkit.utils.json_lines import EpochLines

from .fakes import FakeDistillation, log_text, make_runner, weights


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_collapse_numbers_are_the_epochs_means(tmp_path: Path) -> None:
    runner = make_runner(tmp_path, [dict(type='CollapseMonitorHook', num_images=8)], epochs=2)
    seen: list[torch.Tensor] = []
    runner.model.register_forward_pre_hook(lambda _, args, kwargs: seen.append(kwargs['inputs'][0]), with_kwargs=True)
    runner.train()
    found = lines(tmp_path / 'collapse.jsonl')
    assert [record['epoch'] for record in found] == [1, 2]
    # The fake's entropy is the number of the step.
    assert [record['teacher_entropy'] for record in found] == pytest.approx([2.0, 5.0])
    assert [record['kl'] for record in found] == pytest.approx([0.5, 0.5])
    assert [record['cross_entropy'] for record in found] == pytest.approx([2.5, 5.5])
    # Features: the teacher's, of the last 8 images of the epoch.
    encoder = PooledEncoder(runner.model.teacher['backbone'])
    with evaluation_mode(encoder), torch.no_grad():
        features = encoder(torch.cat(seen)[-8:])
    assert found[-1]['num_images'] == 8
    assert found[-1]['feature_deviation'] == pytest.approx(feature_deviation(features), rel=1e-4)
    assert found[-1]['effective_rank'] == pytest.approx(effective_rank(features), rel=1e-4)
    assert 'collapse/effective_rank' in next(tmp_path.glob('*/vis_data/scalars.json')).read_text()


def test_collapse_is_warned_of_after_the_grace(tmp_path: Path) -> None:
    model = FakeDistillation(out_dim=16)
    torch.nn.init.zeros_(model.teacher.get_parameter('backbone.embed.weight'))
    runner = make_runner(tmp_path, [dict(type='CollapseMonitorHook')], epochs=2, model=model)
    runner.train()
    first, second = lines(tmp_path / 'collapse.jsonl')
    assert first['findings'] == []
    assert any('features are dead' in finding for finding in second['findings'])
    assert 'WARNING' in log_text(runner) and 'epoch 2: the features are dead' in log_text(runner)


def test_advice_knows_the_highest_learning_rate_of_the_run(tmp_path: Path) -> None:
    """Stuck in its warm-up, or at the low end of a run that has had its rate: not the same advice."""
    for name, schedule in (
        ('stuck', dict(type='ConstantLR', factor=0.01, by_epoch=True, begin=0, end=5)),
        ('ended', dict(type='MultiStepLR', gamma=0.01, by_epoch=True, milestones=[1])),
    ):
        model = FakeDistillation(out_dim=16)
        torch.nn.init.zeros_(model.teacher.get_parameter('backbone.embed.weight'))
        hooks = [dict(type='CollapseMonitorHook')]
        runner = make_runner(tmp_path / name, hooks, epochs=2, model=model, param_scheduler=[schedule])
        runner.train()
        first, second = lines(tmp_path / name / 'collapse.jsonl')
        assert (first['lr'], second['lr']) == pytest.approx((5e-4, 5e-4) if name == 'stuck' else (0.05, 5e-4))
        finding = second['findings'][-1]
        assert 'features are dead' in finding
        assert ('Lower the learning rate' in finding) == (name == 'ended')
        assert ('0.0005 at most so far, 0.01 of the 0.05 of the config' in finding) == (name == 'stuck')


def test_collapse_monitor_does_not_disturb(tmp_path: Path) -> None:
    plain = make_runner(tmp_path / 'a', [])
    plain.train()
    watched = make_runner(tmp_path / 'b', [dict(type='CollapseMonitorHook')])
    watched.train()
    expected = weights(plain)
    assert all(torch.equal(value, expected[name]) for name, value in weights(watched).items())


@pytest.mark.parametrize('wrong', [dict(num_images=1), dict(batch_size=0), dict(grace_epochs=-1)])
def test_wrong_collapse_settings(wrong: dict) -> None:
    with pytest.raises(UsageError):
        CollapseMonitorHook(**wrong)


def test_non_finite_loss_stops_before_anything_is_saved(tmp_path: Path) -> None:
    model = FakeDistillation()
    model.break_at = 6  # the last iteration of the second epoch
    runner = make_runner(tmp_path, [dict(type='NonFiniteLossHook')], epochs=3, model=model)
    with pytest.raises(NonFiniteLossError, match=r'loss_ce = nan, at iteration 6 \(epoch 2\)') as error:
        runner.train()
    assert str(tmp_path / 'epoch_1.pth') in str(error.value)
    assert 'loss_restore' not in str(error.value)
    assert not isinstance(error.value, UsageError)
    assert [path.name for path in tmp_path.glob('*.pth')] == ['epoch_1.pth']
    saved = torch.load(tmp_path / 'epoch_1.pth', weights_only=False)['state_dict']
    assert all(torch.isfinite(value.float()).all() for value in saved.values())


def test_non_finite_weights_are_not_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = FakeDistillation()
    model.neck.weight.data[0, 0] = float('inf')
    model.neck.requires_grad_(False)
    monkeypatch.setattr(model.neck, 'forward', lambda value: value)  # the loss stays finite
    runner = make_runner(tmp_path, [dict(type='NonFiniteLossHook')], epochs=1, model=model)
    with pytest.raises(NonFiniteLossError, match=r'first neck\.weight.*No checkpoint had been written yet'):
        runner.train()
    assert list(tmp_path.glob('*.pth')) == []


def test_panels_are_drawn_and_disturb_nothing(tmp_path: Path) -> None:
    plain = make_runner(tmp_path / 'plain', [], epochs=3)
    plain.train()
    runner = make_runner(tmp_path / 'panels', [dict(type='PanelHook', interval=2, num_images=3)], epochs=3)
    runner.train()
    drawn = sorted((tmp_path / 'panels' / 'panels').iterdir())
    assert [path.name for path in drawn] == ['epoch_000.png', 'epoch_002.png', 'epoch_003.png']
    with Image.open(drawn[0]) as first, Image.open(drawn[1]) as second:
        assert first.size == second.size and first.width > first.height * 0.8
        # Same images: the left column (the input) does not change.
        assert first.crop((0, 30, 160, 500)).tobytes() == second.crop((0, 30, 160, 500)).tobytes()
    expected = weights(plain)
    assert all(torch.equal(value, expected[name]) for name, value in weights(runner).items())


@pytest.mark.parametrize('wrong', [dict(interval=0), dict(num_images=0), dict(interval='a')])
def test_wrong_panel_settings(wrong: dict) -> None:
    with pytest.raises(UsageError):
        PanelHook(**wrong)


def test_epoch_lines(tmp_path: Path) -> None:
    table = EpochLines(tmp_path / 'new' / 'table.jsonl')
    assert table.read() == []
    table.keep_until(3)
    for epoch, value in ((2, 'b'), (1, 'a'), (3, 'c'), (2, 'd')):
        table.put({'epoch': epoch, 'value': value})
    assert [record['value'] for record in table.read()] == ['a', 'd', 'c']
    table.keep_until(2)
    assert [record['value'] for record in table.read()] == ['a', 'd']
    assert [path.name for path in table.path.parent.iterdir()] == ['table.jsonl']
    table.path.write_text('{"epoch": 1}\nrubbish\n')
    with pytest.raises(ValueError, match='line 2'):
        table.read()
