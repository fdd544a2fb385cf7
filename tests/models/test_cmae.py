"""CMAE: a step against its formulas, keys of two processes, what does not fit."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from mstkit.errors import UsageError
from mstkit.models import Pretrainer
from mstkit.models.objectives.target_view_contrast import keys_of_all_ranks, mean_of_places
from mstkit.models.step import Step
from mstkit.registry import MODELS
from tests.models.builders import SWIN, VIT, total
from tests.models.mim_models import DECODER, Given, build, masks
from tests.models.parity import check_gradients, in_float64
from tests.models.plain_mim import mae_loss
from tests.models.plain_views import cmae_contrast

SMALL = dict(hid_channels=24, out_channels=16)
BATCH = 4


def shown(*sizes: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(BATCH, 3, size, size, generator=generator) for size in sizes]


def cmae(**parts: Any) -> Pretrainer:
    """With a teacher that is not its student."""
    small = dict(decoder=DECODER, feature_decoder=dict(DECODER, num_layers=1), neck=SMALL, predictor=SMALL)
    model = build('CMAE', **{**small, **parts})
    with torch.no_grad():
        for name, parameter in model.teacher.named_parameters():
            if name != 'backbone.pos_embed':
                parameter.add_(torch.randn_like(parameter), alpha=0.1 if 'bias' in name else 0.02)
    return model


@pytest.mark.parametrize('views', [1, 2])
def test_a_step_is_that_of_its_formulas(views):
    mask = masks(4, 4, (10, 11, 10, 9) * views)
    model = cmae(masker=Given(mask), global_views=views).double()  # batch norms of few images enlarge rounding errors
    inputs = [view.double() for view in shown(*[32] * (views + 1))]
    losses = model.loss(inputs)
    total(losses).backward()
    weights = in_float64(model)
    teacher = {name: one.detach() for name, one in model.teacher.named_parameters()}
    predicted = mae_loss(torch.cat(inputs[:-1]), mask, weights, 8, (3, 2), True)
    contrast = cmae_contrast(torch.cat(inputs[:-1]), inputs[-1], mask, weights, teacher, 8, (3, 2))
    (predicted + contrast).backward()
    assert losses['loss_predict'].item() == pytest.approx(predicted.item(), rel=1e-5)
    assert losses['loss_contrast'].item() == pytest.approx(contrast.item(), rel=1e-5)
    check_gradients(model, weights)


def test_parts_and_momentum_are_those_of_its_code():
    narrow = dict(embed_dims=48, num_heads=2)
    model = MODELS.build(dict(type='CMAE', backbone=VIT, decoder=narrow, feature_decoder=narrow))
    contrast = model.objectives['contrast']
    assert [len(model.objectives[name].decoder.layers) for name in ('predict', 'contrast')] == [8, 2]
    for part, channels in ((contrast.neck, 48), (contrast.predictor, 256)):
        assert part.fc0.weight.shape == (1536, channels) and part.fc1.weight.shape == (256, 1536)
        assert part.fc0.bias is not None and part.fc1.bias is None and part.bn0.eps == 1e-6
    assert (model.teacher.start_momentum, model.teacher.end_momentum) == (0.996, 0.996)
    assert set(model.followed()) == {'backbone', 'contrast_neck'}
    assert model.masker is not None and model.masker.ratio == (0.65, 0.65)


def keys(rank: int) -> Tensor:
    return keys_of_all_ranks(torch.full((2, 3), float(rank)))


def test_keys_of_two_processes_are_rank_by_rank(run_two):
    """So the positive of image b of rank r of B images each is number r * B + b."""
    for found in run_two(keys):
        assert found[:, 0].tolist() == [0, 0, 1, 1]


def test_equal_keys_tell_nothing_apart():
    model = cmae()
    with torch.no_grad():
        model.teacher.contrast_neck.fc1.weight.zero_()
    assert model.loss(shown(32, 32))['loss_contrast'].item() == pytest.approx(math.log(BATCH), rel=1e-5)


@pytest.mark.parametrize(
    ('parts', 'sizes', 'message'),
    [
        ({}, [32], r'CMAE needs 2 views of one size .*: set global_crops\.count=2'),
        ({}, [32, 32, 16], r'CMAE trains on 2 views of an image \(model\.global_views and a target view\)'),
        (dict(backbone=SWIN), [], 'MaskedSwinTransformer cannot encode the visible patches alone'),
        (dict(predictor=dict(out_channels=8)), [], 'neck gives 256 numbers per image and predictor 8'),
        (dict(temperature=0.0), [], r'TargetViewContrast\.temperature is 0'),
        (dict(loss_weight_contrast=-1), [], r'CMAE\.loss_weight_contrast is -1'),
        (dict(masker=None), [], 'predicts hidden patches, but has no masker'),
    ],
)
def test_mistakes(parts, sizes, message):
    small = dict(type='CMAE', backbone=VIT, decoder=DECODER, feature_decoder=DECODER)
    with pytest.raises(UsageError, match=message):
        MODELS.build({**small, **parts}).check_view_count(sizes)


def test_thrown_patches_take_no_part_in_the_mean():
    """The decoder gives them no token, so what stands in their place says nothing of the image."""
    mask = masks(4, 4, (4, 4, 4, 4))
    thrown = masks(4, 4, (9, 3, 0, 5)) & ~mask
    model = cmae(masker=Given(mask, thrown))
    step = Step(model, shown(32, 32))
    features = model.objectives.contrast.decoder(step.seen)
    expected = torch.stack([one[~out].mean(dim=0) for one, out in zip(features, thrown.flatten(1), strict=True)])
    torch.testing.assert_close(mean_of_places(features, step.thrown), expected)
    assert not torch.allclose(features.mean(dim=1), expected)
    losses = []
    for change in (0.0, 5.0):  # in the places of thrown patches
        handle = model.objectives.contrast.decoder.register_forward_hook(
            lambda _, __, made, change=change: made + change * thrown.flatten(1)[..., None]
        )
        losses.append(model.loss(shown(32, 32))['loss_contrast'])
        handle.remove()
    assert torch.equal(*losses)
