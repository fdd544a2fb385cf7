"""MSN: a step against its formulas, which views and patches each network sees, the mean entropy over processes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from mstkit.errors import UsageError
from mstkit.models import Pretrainer, Step
from mstkit.models.objectives.prototype_matching import mean_entropy
from mstkit.registry import MODELS
from tests.models.builders import NECK, SWIN, VIT, gradient_of
from tests.models.mim_models import Given, build, masks
from tests.models.parity import check_gradients, in_float64
from tests.models.plain_views import msn_loss

LINEAR = dict(type='PrototypeMatching', neck=dict(type='mmpretrain.LinearNeck', in_channels=48, out_channels=8))
HEAD = dict(NECK, batch_norm='all', norm_last_layer=True)
MATCH = dict(type='PrototypeMatching', neck=HEAD)
BATCH = 4


def shown(*sizes: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(BATCH, 3, size, size, generator=generator) for size in sizes]


def msn(**parts: Any) -> Pretrainer:
    """With a teacher that is not its student."""
    model = build('MSN', **{'neck': HEAD, **parts})
    with torch.no_grad():
        for name, parameter in model.teacher.named_parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1 if 'bias' in name else 0.02)
    return model


def teacher_of(model: Pretrainer) -> dict[str, Tensor]:
    return {name: one.detach().double() for name, one in model.teacher.named_parameters()}


@pytest.mark.parametrize('sinkhorn', [True, False])
@pytest.mark.parametrize(('anchors', 'focal'), [(1, (16, 16)), (2, (32, 16)), (1, ())])
def test_a_step_is_that_of_its_formulas(anchors, focal, sinkhorn):
    mask = masks(4, 4, (3, 5, 0, 3) * anchors)
    model = msn(masker=Given(mask), sinkhorn=sinkhorn, entropy_weight=0.7, global_views=anchors)
    model.double()  # the batch norms of so few images enlarge rounding errors of the encoder
    views = [view.double() for view in shown(*[32] * (anchors + 1), *focal)]
    loss = model.loss(views)['loss_match']
    loss.backward()
    weights = in_float64(model)
    small = views[anchors + 1 :]
    local = [torch.cat([view for view in small if view.shape[-1] == size]) for size in dict.fromkeys(focal)]
    expected = msn_loss(
        torch.cat(views[:anchors]), views[anchors], local, mask, weights, teacher_of(model), 8, 3, sinkhorn, 0.7
    )
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    check_gradients(model, weights)
    found = model.last_statistics()
    assert found['teacher_entropy'] + found['kl'] + 0.7 * (math.log(32) - found['mean_entropy']) == pytest.approx(
        loss.item(), rel=1e-5
    )


def test_the_student_never_sees_the_target_view_nor_the_teacher_another():
    model = msn()
    seen: dict[str, list[Tensor]] = {}
    for name, network in (('student', 'backbone'), ('teacher', 'teacher.backbone')):
        layer = model.get_submodule(f'{network}.patch_embed')
        layer.register_forward_pre_hook(lambda _, inputs, name=name: seen.setdefault(name, []).append(inputs[0]))
    views = shown(32, 32, 16)
    model.loss(views)
    assert [torch.equal(*pair) for pair in zip(seen['student'], (views[0], views[2]), strict=True)] == [True, True]
    assert [torch.equal(*pair) for pair in zip(seen['teacher'], views[1:2], strict=True)] == [True]


def test_thirty_of_196_patches_are_dropped():
    mask = Step(msn(backbone=dict(VIT, patch_size=2, img_size=28)), shown(28, 28)).mask
    assert mask is not None and mask.flatten(1).sum(1).tolist() == [30] * BATCH


def test_other_objectives_get_the_students_views():
    """And a masker that the teacher guides its scores of them."""
    extra = dict(koleo=dict(type='KoLeo'), ce=dict(type='CrossView', neck=HEAD, head=dict(type='DINOHead')))
    model, views = msn(objectives=extra, masker=dict(type='AttMaskHigh', image_prob=1.0)), shown(32, 32, 16)
    losses = model.loss(views)
    assert set(losses) == {'loss_match', 'loss_koleo', 'loss_ce'}
    step = Step(model, views)
    whole = model.teacher.backbone.forward_tokens(views[0], return_attention=True)
    torch.testing.assert_close(step.teacher.pooled, whole.pooled)
    assert step.guidance is not None
    torch.testing.assert_close(step.guidance.attention, whole.attention)


def spread(rank: int, sizes: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The mean entropy, and its gradient in the assignments of this rank."""
    first = sum(sizes[:rank])
    rows = torch.randn(sum(sizes), 6, generator=torch.Generator().manual_seed(0)).softmax(-1)
    leaf = rows[first : first + sizes[rank]].clone().requires_grad_()
    entropy = mean_entropy(leaf)
    entropy.backward()
    return entropy.detach(), gradient_of(leaf)


@pytest.mark.parametrize('sizes', [(4, 4), (5, 2)])
def test_mean_entropy_of_two_processes_equals_that_of_one(run_two, sizes):
    entropy, gradient = spread(0, (sum(sizes), 0))
    rows = torch.randn(sum(sizes), 6, generator=torch.Generator().manual_seed(0)).softmax(-1).double()
    mean = rows.mean(dim=0).tolist()
    assert entropy.item() == pytest.approx(-sum(share * math.log(share) for share in mean), rel=1e-6)
    found = run_two(spread, sizes)
    for value, _ in found:
        torch.testing.assert_close(value, entropy)
    torch.testing.assert_close(torch.cat([one for _, one in found]) / 2, gradient)


def test_prototypes_without_any_image_are_finite():
    leaf = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]], requires_grad=True)
    entropy = mean_entropy(leaf)
    entropy.backward()
    assert entropy.item() == pytest.approx(0.0, abs=1e-6) and torch.isfinite(gradient_of(leaf)).all()


@pytest.mark.parametrize(
    ('parts', 'sizes', 'message'),
    [
        ({}, [32], r'MSN needs 2 views of one size .* views of 32 px: set global_crops\.count=2'),
        ({}, [32, 16, 16], r'set global_crops\.count=2 of MultiCrop'),
        (dict(global_views=2), [32, 32, 16], r'MSN needs 3 views .*, 2 for its student .*: set global_crops\.count=3'),
        (dict(backbone=SWIN), [], 'MaskedSwinTransformer cannot encode the visible patches alone'),
        (dict(type='Pretrainer', objectives=dict(match=LINEAR)), [], 'LinearNeck, which has no prototypes'),
        (dict(temperature=0.0), [], r'PrototypeMatching\.temperature is 0'),
        (dict(sharpening=1.5), [], r'PrototypeMatching\.sharpening is 1\.5'),
        (dict(loss_weight_match=-1), [], r'MSN\.loss_weight_match is -1'),
        (dict(type='Pretrainer', objectives=dict(match=MATCH), teacher=False), [], "'match' needs a teacher"),
    ],
)
def test_mistakes(parts, sizes, message):
    with pytest.raises(UsageError, match=message):
        MODELS.build({'type': 'MSN', 'backbone': VIT, **parts}).check_view_count(sizes)
