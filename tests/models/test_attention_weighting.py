"""Losses of patches weighed by the guide's scores (AttG-MAE): its formula, who asks the guide, what is refused."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mstkit.errors import UsageError
from mstkit.models.guides import Guide, GuideRequest
from mstkit.models.objectives.attention_weighting import AttentionWeighting
from mstkit.models.step import Step
from mstkit.structures import Progress
from tests.models.builders import SWIN
from tests.models.mim_models import BLOCKS, Given, build, epochs_with_new_scores, images, masks

WEIGHTING = dict(temperature=0.5, factor=0.3)


def test_weights_are_those_of_the_formula():
    scores = torch.tensor([[0.1, 0.4, 0.2], [3.0, 3.0, 3.0]])
    found = AttentionWeighting(**WEIGHTING)(scores)
    first = [0.3 * math.exp((value - 0.1) / 0.3 / 0.5) for value in (0.1, 0.4, 0.2)]
    torch.testing.assert_close(found, torch.tensor([first, [0.3] * 3]))


def test_the_temperature_follows_half_a_cosine():
    weighting = AttentionWeighting(2.0, 0.5)
    found = []
    for step in (0, 25, 50, 100):
        weighting.set_progress(Progress(step, 100, 10))
        found.append(weighting.temperature)
    assert found == pytest.approx([2.0, 0.5 + 1.5 * (1 + math.cos(math.pi / 4)) / 2, 1.25, 0.5])


@pytest.mark.parametrize('method', ['MAE', 'SimMIM', 'SimMIM with Swin'])
def test_a_step_is_that_of_the_formula(method):
    """A mean over the hidden patches of the batch, in which each counts by its score; scores get no gradient."""
    size, cells = (224, 7) if 'Swin' in method else (32, 4)
    mask, shown = masks(cells, cells), images(size, size)
    parts: dict[str, Any] = dict(backbone=SWIN) if 'Swin' in method else {}
    model = build(method.split()[0], masker=Given(mask), guide='ema', weighting=WEIGHTING, **parts)
    losses = model.loss([shown])
    step = Step(model, [shown], read_all=True)
    predict = model.objectives['predict']
    scores = model.guide.encode(model, shown, GuideRequest()).attention.mean(dim=1)
    predicted, target = predict.decoder(step.seen), predict.target(shown, step.grid)
    hidden = mask.flatten(1)
    total, count = torch.zeros(()), 0
    for image in range(len(shown)):
        low, high = scores[image].min(), scores[image].max()
        for place in hidden[image].nonzero().flatten():
            difference = predicted[image, place] - target[image, place]
            error = difference.square().mean() if method == 'MAE' else difference.abs().mean()
            total = total + error * 0.3 * ((scores[image, place] - low) / (high - low) / 0.5).exp()
            count += 1
    expected = total / count
    torch.testing.assert_close(losses['loss_predict'], expected, rtol=1e-5, atol=1e-6)
    names, parameters = zip(*[(n, p) for n, p in model.named_parameters() if p.requires_grad], strict=True)
    grads = [torch.autograd.grad(loss, parameters, allow_unused=True) for loss in (losses['loss_predict'], expected)]
    for name, one, other in zip(names, *grads, strict=True):
        assert (one is None) == (other is None), name
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6, msg=name)
    assert not any(key.startswith('request') for key in model.state_dict())


def asked(monkeypatch: pytest.MonkeyPatch, model: Any, steps: int = 2) -> int:
    """How often the guide encodes in so many steps."""
    calls: list[int] = []
    kind = type(model.guide)
    encode = kind.encode

    def counted(self: Guide, *args: Any) -> Any:
        calls.append(1)
        return encode(self, *args)

    monkeypatch.setattr(kind, 'encode', counted)
    for iteration in range(steps):
        model.set_progress(Progress(iteration, 10, 5, iteration=iteration))
        model.loss([images(32, 32)])
    monkeypatch.undo()
    return len(calls)


def test_the_guide_is_asked_once_a_step_whoever_asks(monkeypatch):
    assert build('MAE', guide='ema').guide is None, 'a random mask asks nobody'
    assert asked(monkeypatch, build('MAE', guide='ema', weighting=WEIGHTING)) == 2
    high = dict(type='AttMaskHigh', ratio=0.5, image_prob=1.0)
    assert asked(monkeypatch, build('MAE', guide='ema', masker=high, weighting=WEIGHTING)) == 2
    late = dict(type='MaskerSchedule', phases=[(0, BLOCKS), (5, high)])
    assert asked(monkeypatch, build('MAE', guide='ema', masker=late, weighting=WEIGHTING)) == 2


def test_objectives_get_the_scores_of_the_masker():
    """Its block and its way to rank, where it has any; with a random mask those of the last block."""
    shown = [images(32, 32)]
    second = dict(type='AttMaskHigh', ratio=0.5, image_prob=1.0, layer=-2, exclude_cls_key=True)
    settings = dict(guide=dict(type='ema', score='class_token'), weighting=WEIGHTING)
    by_masker = Step(build('MAE', masker=second, **settings), shown)
    by_itself = Step(build('MAE', **settings), shown)
    assert by_masker.importance.shape == by_itself.importance.shape == (3, 16)
    torch.testing.assert_close(by_masker.importance.sum(dim=1), torch.ones(3))
    assert not torch.allclose(by_masker.importance / by_masker.importance.sum(), by_itself.importance)
    tokens = dict(type='PartMasker', ratio=0.5, num_parts=3)
    step = Step(build('MAE', masker=tokens, **settings), shown)
    assert step.mask is not None and step.mask.any() and step.importance.shape == (3, 16), (
        'tokens for the masker, scores for the objective'
    )


def test_kept_scores_are_made_for_a_random_mask_too(monkeypatch):
    model = build('MAE', guide=dict(type='cached', every=2), weighting=WEIGHTING)
    assert epochs_with_new_scores(model, 4, torch.rand(3, 4, 4), monkeypatch) == [0, 2]
    samples = [SimpleNamespace(sample_idx=index, view_boxes=[[0, 0, 1, 1, 0]]) for index in (1, 0, 2)]
    assert torch.isfinite(model.loss([images(32, 32)], samples)['loss_predict'])


@pytest.mark.parametrize(
    ('parts', 'message'),
    [
        (dict(teacher=False), 'an objective with a weighting needs scores of a guide, but there is none'),
        (dict(guide='none'), 'an objective with a weighting needs scores of a guide'),
        (dict(weighting=dict(temperature=0.001)), r'weighting\.temperature is 0\.001: exp\(1 / 0\.001\) is too large'),
        (dict(weighting=dict(temperature=0)), r'weighting\.temperature is 0'),
        (dict(weighting=dict(temperature=1, end_temperature=-1)), r'weighting\.end_temperature is -1'),
        (dict(weighting=dict(tau=1)), "give temperature, .* there is no 'tau'"),
        (dict(weighting=dict(factor=1)), 'give temperature'),
    ],
)
def test_what_does_not_fit_is_refused(parts, message):
    with pytest.raises(UsageError, match=message):
        build('MAE', **{**dict(weighting=WEIGHTING), **parts})


def test_every_guide_answers_for_an_objective():
    for guide in ('teacher', 'student', 'ema'):
        model = build('MAE', guide=guide, weighting=WEIGHTING)
        assert isinstance(model.guide, Guide) and model.guide.score == 'received'
        assert torch.isfinite(model.loss([images(32, 32)])['loss_predict'])
