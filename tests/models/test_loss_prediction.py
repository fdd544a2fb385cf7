"""Hard patches mining: the ranking loss beside a plain loop, whose losses are ranked, and who ranks for the masker."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from mstkit.errors import UsageError
from mstkit.models import Step
from mstkit.models.objectives.loss_prediction import ranking_loss
from mstkit.structures import Progress
from tests.models.builders import gradient_of, mst, total, views
from tests.models.mim_models import DECODER, Given, build, images, masks

RANK = dict(type='LossPrediction', decoder=DECODER)
HARD: dict[str, Any] = dict(
    masker=dict(type='TopShareMasker', start=0.5), guide='predicted_loss', objectives=dict(rank=RANK)
)


def plain_ranking(predicted: list[list[float]], errors: list[list[float]], hidden: list[list[bool]]) -> Any:
    """Loss, gradients and share of right pairs by two loops over the patches of each image, in double precision."""
    loss, right, count = 0.0, 0, 0
    gradients = [[0.0] * len(row) for row in predicted]
    for image, (scores, losses, mask) in enumerate(zip(predicted, errors, hidden, strict=True)):
        for i in range(len(scores)):
            for j in range(len(scores)):
                if mask[i] and mask[j] and losses[i] > losses[j]:
                    chance = 1 / (1 + math.exp(scores[j] - scores[i]))
                    loss -= math.log(chance)
                    gradients[image][i] -= 1 - chance
                    gradients[image][j] += 1 - chance
                    right += scores[i] > scores[j]
                    count += 1
    return loss / count, [[value / count for value in row] for row in gradients], right / count


def test_the_ranking_loss_equals_two_loops():
    generator = torch.Generator().manual_seed(0)
    predicted = torch.randn(5, 14, generator=generator) * 3
    errors = torch.rand(5, 14, generator=generator)
    errors[0, 3:9] = 0.5  # pairs of equal losses do not count
    hidden = torch.rand(5, 14, generator=generator) < torch.tensor([[1.0], [0.7], [0.5], [0.2], [0.0]])
    predicted.requires_grad_()
    loss, accuracy = ranking_loss(predicted, errors, hidden)
    loss.backward()
    expected, gradients, right = plain_ranking(predicted.tolist(), errors.tolist(), hidden.tolist())
    assert loss.item() == pytest.approx(expected, rel=1e-5) and accuracy.item() == pytest.approx(right)
    torch.testing.assert_close(gradient_of(predicted), torch.tensor(gradients), rtol=1e-5, atol=1e-8)
    assert not gradient_of(predicted)[~hidden].any()


@pytest.mark.parametrize('count', [0, 1])
def test_without_a_pair_it_is_zero(count):
    predicted = torch.randn(3, 6, requires_grad=True)
    hidden = torch.arange(6).expand(3, -1) < count
    loss, accuracy = ranking_loss(predicted, torch.rand(3, 6), hidden)
    loss.backward()
    assert loss.item() == accuracy.item() == 0 and not gradient_of(predicted).any()


def test_far_apart_predictions_stay_finite():
    predicted = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    loss, _ = ranking_loss(predicted, torch.tensor([[0.0, 1.0, 2.0]]), torch.ones(1, 3, dtype=torch.bool))
    loss.backward()
    assert loss.item() == pytest.approx((2e4 + 1e4 + 0) / 3) and torch.isfinite(gradient_of(predicted)).all()


@pytest.mark.parametrize('kind', ['MAE', 'SimMIM', 'BEiT', 'IBOT'])
def test_the_ranked_losses_are_those_of_the_patches(kind):
    """Of the objective that the model trains on: their mean over hidden patches is its loss."""
    hidden = masks(counts=(10, 10, 10))
    if kind == 'IBOT':
        parts = dict(type='IBOT', decoder=..., patch_head=dict(type='IBOTHead'), masker=Given(hidden.repeat(2, 1, 1)))
        model = mst(**parts, objectives=dict(rank=dict(RANK, of='patch')))
        model.set_progress(Progress(0, 10, 5))
        step, name = Step(model, views(batch=3, local=0)), 'patch'
    else:
        model, name = build(kind, masker=Given(hidden), objectives=dict(rank=RANK)), 'predict'
        step = Step(model, [images()])
    losses = {key: one(step) for key, one in model.objectives.items()}
    errors, mask = step.patch_errors[name], step.mask.flatten(1)  # type: ignore[union-attr]
    assert list(step.patch_errors) == [name] and errors.shape == mask.shape and not errors.requires_grad
    assert errors[mask].mean().item() == pytest.approx(losses[name].item(), rel=1e-5)
    assert errors[mask].std() > 0
    seen = step.visible if kind == 'MAE' else step.student
    predicted = model.objectives['rank'].predictor(seen).squeeze(-1)
    expected, _, right = plain_ranking(predicted.tolist(), errors.tolist(), mask.tolist())
    assert losses['rank'].item() == pytest.approx(expected, rel=1e-4)
    assert model.objectives['rank'].statistics['rank_accuracy'].item() == pytest.approx(right)


@pytest.mark.parametrize('kind', ['MAE', 'SimMIM'])
def test_losses_of_patches_that_nobody_ranks_are_not_kept(kind):
    model = build(kind, masker=Given(masks()))
    step = Step(model, [images()])
    model.objectives['predict'](step)
    assert step.patch_errors == {}


def gradients(weights: dict[str, Tensor], **objectives: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights and gradients of a step of MAE that starts from the given weights, as far as it has them."""
    model = build('MAE', masker=Given(masks()), objectives=objectives)
    model.load_state_dict(weights, strict=False)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    total(model.loss([images()])).backward()
    return state, {name: gradient_of(p) for name, p in model.named_parameters() if p.requires_grad}


def test_what_the_ranking_trains():
    """Never the reconstruction, whose errors it ranks; the encoder, as in HPM's code, unless told otherwise."""
    weights, without = gradients({})
    for train_encoder in (True, False):
        _, found = gradients(weights, rank=dict(RANK, train_encoder=train_encoder))
        for name, gradient in without.items():
            if name.startswith('objectives.predict.') or not train_encoder:
                torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-7, msg=name)
        assert torch.allclose(found['backbone.cls_token'], without['backbone.cls_token']) != train_encoder
        assert all(found[name].any() for name in found if name.startswith('objectives.rank.'))


def test_the_teachers_prediction_of_whole_images_ranks_patches():
    model = build('MAE', **HARD, teacher=dict(momentum=0.5))
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    predictor = model.objectives['rank'].predictor
    average = {name: value.detach().clone() for name, value in predictor.named_parameters()}
    for name, value in average.items():
        model.teacher.rank_predictor.get_parameter(name).data.copy_(value)
    for iteration in range(3):
        progress = Progress(iteration, 8, 2, rank_seed=1, iteration=iteration)
        model.set_progress(progress)
        optimizer.zero_grad()
        total(model.loss([images()])).backward()
        optimizer.step()
        momentum = 1 - 0.5 * (1 + math.cos(math.pi * iteration / 8)) / 2
        model.after_step()
        for name, value in predictor.named_parameters():
            average[name] = momentum * average[name] + (1 - momentum) * value.detach()
            torch.testing.assert_close(model.teacher.rank_predictor.get_parameter(name).detach(), average[name])
    with torch.no_grad():
        seen = model.teacher.backbone.forward_tokens(images())
        predicted = model.teacher.rank_predictor(seen).squeeze(-1)
    step = Step(model, [images()])
    guidance = step.guidance
    assert guidance is not None and guidance.attention is not None
    torch.testing.assert_close(guidance.attention[:, 0], predicted.softmax(-1))
    torch.testing.assert_close(model.guide.encode(model, images(), model.masker).attention, guidance.attention)
    hardest = predicted.topk(6).indices  # α is a half, of 12 of 16 patches
    assert step.mask is not None and step.mask.flatten(1).gather(1, hardest).all()
    assert (step.mask.flatten(1).sum(1) == 12).all()
    assert torch.equal(guidance.patch_tokens, step.teacher.patch_tokens), 'one pass of the teacher'


def test_the_teacher_computes_no_attention_for_it():
    model = build('MAE', **HARD)
    assert Step(model, [images()]).teacher.attention is None
    assert build('MAE', **{**HARD, 'masker': dict(type='RandomMasker', ratio=0.5)}).teacher is None


def test_which_patches_are_hard_is_learned():
    """Where noise is always in the upper half, nobody can predict that half; the teacher expects it of new images."""

    def drawn(seed: int) -> Tensor:
        noise = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
        noise[:, :, 16:] *= 0.1
        return noise

    pixels = dict(type='Pixels', norm=False)
    model = build('MAE', **HARD, target=pixels, teacher=dict(momentum=0.7, end_momentum=0.7))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    for iteration in range(25):
        model.set_progress(Progress(iteration, 25, 5, rank_seed=1, iteration=iteration))
        optimizer.zero_grad()
        total(model.loss([drawn(iteration)])).backward()
        optimizer.step()
        model.after_step()
    scores = Step(model, [drawn(1000)]).guidance.attention.view(8, 4, 4)  # type: ignore[union-attr]
    upper, lower = scores[:, :2].flatten(1), scores[:, 2:].flatten(1)
    assert (upper[:, :, None] > lower[:, None]).float().mean() > 0.9
    assert model.last_statistics()['rank_accuracy'] > 0.6


@pytest.mark.parametrize(
    ('parts', 'message'),
    [
        (
            dict(objectives=dict(rank=dict(RANK, of='restore'))),
            "no objective 'restore' with a loss of each patch.*'predict'",
        ),
        (dict(objectives=dict(rank=dict(RANK, decoder=dict(DECODER, out_channels=3)))), 'out_channels is 3'),
        (dict(objectives=dict(rank=dict(RANK, lr_mult=-1))), 'LossPrediction.lr_mult is -1'),
        (dict(objectives={}), r'no objective predicts the loss.*add model\.objectives=dict\(rank='),
        (dict(objectives=dict(one=RANK, two=RANK)), r"several objectives predict.*objective='one' or 'two'"),
        (dict(guide=dict(type='predicted_loss', objective='hard')), "there is no LossPrediction 'hard': give .*'rank'"),
        (dict(teacher=False), 'needs a guide, but there is none'),
    ],
)
def test_what_does_not_fit_is_refused(parts, message):
    with pytest.raises(UsageError, match=message):
        build('MAE', **{**HARD, **parts})


def test_of_several_the_named_one_ranks():
    two = dict(one=RANK, two=RANK)
    model = build('MAE', **{**HARD, 'objectives': two, 'guide': dict(type='predicted_loss', objective='two')})
    with torch.no_grad():
        model.teacher.two_predictor.predict.weight.normal_()
        predicted = model.teacher.two_predictor(model.teacher.backbone.forward_tokens(images())).squeeze(-1)
    scores = Step(model, [images()]).guidance.attention[:, 0]  # type: ignore[union-attr, index]
    torch.testing.assert_close(scores, predicted.softmax(-1))


def test_without_a_loss_of_patches_there_is_nothing_to_rank():
    with pytest.raises(UsageError, match=r'LossPrediction\.of: there is no objective with a loss of each patch'):
        mst(type='DINO', decoder=..., objectives=dict(rank=RANK))
    with pytest.raises(UsageError, match='LossPrediction ranks hidden patches'):
        mst(type='DINO', decoder=..., masker=None, objectives=dict(rank=RANK))
