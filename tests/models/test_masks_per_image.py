"""Several masks of an image in a step: the losses of as many steps with one mask, for one pass of teacher and guide."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import pytest
import torch
from torch import Tensor

from mstkit.errors import UsageError
from mstkit.models import KoLeo, Masker, Objective, Pretrainer, Step
from mstkit.models.maskers import build_masker
from mstkit.registry import MODELS
from mstkit.structures import DrawnMask, MaskContext, Progress
from tests.models.builders import VIT, total, views
from tests.models.mim_models import build as build_mim
from tests.models.mim_models import images
from tests.models.moby import mlp
from tests.models.test_methods import METHODS
from tests.models.test_methods import build as build_method
from tests.models.test_methods import masker as masker_config

M = 3
UNEQUAL = dict(type='RandomMasker', ratio=(0.3, 0.8))
THROWING = dict(type='ThrowingMasker', ratio=(0.3, 0.5), throw=0.2, order='random')
TINY_DECODER = dict(type='ViTDecoder', embed_dims=24, num_layers=1, num_heads=2)
PLAIN_MLP = mlp('LN')
# What is stepped, and whether its losses are means over hidden patches, or over images, which all count alike.
CASES: dict[str, tuple[str, dict[str, Any], bool]] = {
    'MAE': ('MAE', {}, True),
    'MAE, thrown patches': ('MAE', dict(masker=THROWING), True),
    'MAE, squares': ('MAE', dict(mask_patch_size=16, masker=dict(UNEQUAL, image_prob=0.6)), True),
    'MAE, weights': ('MAE', dict(guide='ema', weighting=dict(temperature=0.5)), True),
    'SimMIM': ('SimMIM', {}, True),
    'BEiT': ('BEiT', {}, True),
    'MaskFeat': ('MaskFeat', {}, True),
    'Data2Vec': ('Data2Vec', {}, True),
    'Data2Vec, two views': ('Data2Vec', dict(global_views=2), True),
    'DBOT': ('DBOT', {}, True),
    'BootMAE': ('BootMAE', {}, True),
    'LocalMIM': ('LocalMIM', dict(layers=(1, -1), scales=(2.0, 0.5), decoder=TINY_DECODER), True),
    'DINO': ('DINO', {}, False),
    'IBOT': ('IBOT', {}, False),
    'MSTAlgorithm': ('MSTAlgorithm', {}, False),
    'KoLeo': ('DINO', dict(objectives=dict(koleo=dict(type='KoLeo'))), False),
    'CMAE': ('CMAE', dict(neck=PLAIN_MLP, predictor=PLAIN_MLP), False),
}


def model_of(case: str, **parts: Any) -> Pretrainer:
    method, own, _ = CASES[case]
    config = dict(dict(masker=UNEQUAL, masks_per_image=M), **own, **parts)
    torch.manual_seed(0)
    if method in ('DINO', 'IBOT', 'MSTAlgorithm', 'BootMAE', 'CMAE'):
        model = build_method('RandomMasker', method, 'vit', **config)
        model.set_progress(Progress(60, 100, 10, rank_seed=1, iteration=60))
        return model
    return build_mim(method, **config)


def inputs_of(model: Pretrainer) -> list[Tensor]:
    local = any(one.reads_local for one in model.objectives.values())
    large = views(batch=3, local=2)
    count = model.global_views + (model.target_needs is not None)
    return [*large[:count], *(large[2:] if local else [])]


def step_of(model: Pretrainer, shown: list[Tensor], copies: int, drawn: DrawnMask | None = None) -> Step:
    step = Step(model, shown, copies=copies)
    if drawn is not None:
        step.__dict__['drawn'] = drawn  # where a cached property keeps its value
    return step


def gradients(model: Pretrainer, loss: Tensor) -> dict[str, Tensor]:
    named = {name: one for name, one in model.named_parameters() if one.requires_grad}
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True, retain_graph=True)
    return {name: one for name, one in zip(named, found, strict=True) if one is not None}


@pytest.mark.parametrize('case', CASES)
def test_the_loss_is_that_of_as_many_steps_with_one_mask(case):
    """Each with one of the masks: averaged, by the number of hidden patches where the loss is a mean over these."""
    model, by_count = model_of(case), CASES[case][2]
    shown = inputs_of(model)
    together = step_of(model, shown, M)
    drawn = together.drawn
    assert drawn is not None and len(drawn.hidden) == M * len(together.images)
    losses = {name: one(together) for name, one in model.objectives.items()}
    hidden, thrown = drawn.hidden.chunk(M), (None,) * M if drawn.thrown is None else drawn.thrown.chunk(M)
    counts = [float(one.sum()) for one in hidden]
    assert len(set(counts)) > 1, 'else the weights of the mean are not seen'
    apart: dict[str, list[Tensor]] = {name: [] for name in losses}
    for mask, left_out in zip(hidden, thrown, strict=True):
        alone = step_of(model, shown, 1, DrawnMask(mask, left_out))
        for name, one in model.objectives.items():
            apart[name].append(one(alone))
    weights = [count / sum(counts) for count in counts]
    for name, loss in losses.items():
        by_patches = by_count or name == 'predict'
        shares = weights if by_patches else [1 / M] * M
        expected = torch.stack([share * one for share, one in zip(shares, apart[name], strict=True)]).sum()
        assert loss.item() == pytest.approx(expected.item(), rel=1e-6, abs=1e-7), name
        found, wanted = gradients(model, loss), gradients(model, expected)
        assert set(found) == set(wanted)
        largest = max(float(one.abs().max()) for one in wanted.values())
        for key, gradient in found.items():
            torch.testing.assert_close(gradient, wanted[key], rtol=1e-5, atol=1e-6 * largest, msg=f'{name}: {key}')


@pytest.mark.parametrize('case', ['MAE', 'Data2Vec', 'IBOT'])
def test_one_mask_is_as_before_and_nothing_is_copied(case):
    model = model_of(case, masks_per_image=1)
    step = Step(model, inputs_of(model))
    assert step.copies == 1 and step.student_images is step.images and step.per_copy(step.images) is step.images
    mask = step.mask
    assert mask is not None
    drawn = []
    for copies in (M, M, 1):
        model.set_progress(Progress(0, 100, 10, rank_seed=1, iteration=5))
        masks = Step(model, inputs_of(model), copies=copies).mask
        assert masks is not None
        drawn.append(masks.split(len(mask)))
    first, again, single = drawn
    assert all(map(torch.equal, first, again)), 'the same seed, the same masks'
    assert not torch.equal(first[0], first[1]), 'each copy has its own'
    assert torch.equal(single[0], first[0]), 'the first is the only one'


def test_teacher_and_guide_see_each_image_once(monkeypatch):
    """Whatever the number of masks; with a guide of its own, the teacher's pass and the guide's are one each."""
    model = model_of('Data2Vec', masker=dict(type='MultinomialMasker', ratio=0.5), guide='ema')
    seen: dict[str, list[int]] = {}

    def noting(name: str, backbone: Any) -> None:
        inner = backbone.forward_tokens

        def forward(images: Tensor, *args: Any, **kwargs: Any) -> Any:
            seen.setdefault(name, []).append(len(images))
            return inner(images, *args, **kwargs)

        monkeypatch.setattr(backbone, 'forward_tokens', forward)

    (guide,) = model.guide.backbones()
    for name, backbone in dict(student=model.backbone, teacher=model.teacher.backbone, guide=guide).items():
        noting(name, backbone)
    model.loss([images()])
    assert seen == dict(student=[M * 3], teacher=[3], guide=[3])


def test_patch_losses_of_every_copy_are_ranked():
    model = model_of('MAE', objectives=dict(rank=dict(type='LossPrediction', decoder=TINY_DECODER)))
    step = Step(model, [images()])
    for one in model.objectives.values():
        one(step)
    assert step.patch_errors['predict'].shape == (M * 3, 16)
    assert step.mask is not None and step.mask_shares()['hidden_fraction'] == step.mask.float().mean()
    losses = model.loss([images()])
    assert torch.isfinite(total(losses)) and 'hidden_fraction' in model.last_statistics()


@pytest.mark.parametrize('case', ['MAE', 'MSTAlgorithm'])
def test_a_panel_shows_the_first_mask_alone(case):
    several, one = model_of(case), model_of(case, masks_per_image=1)
    shown = images()
    found, wanted = several.panel(shown), one.panel(shown)
    for name in ('mask', 'reconstruction'):
        left, right = getattr(found, name), getattr(wanted, name)
        assert left.shape[0] == 3 and torch.equal(left, right)


@pytest.mark.parametrize('method', METHODS)
def test_every_method_whose_objectives_can_has_the_argument_and_a_step(method):
    alone = build_method('RandomMasker', method, 'vit')
    able = all(one.several_masks for one in alone.objectives.values())
    taken = 'masks_per_image' in inspect.signature(type(alone)).parameters
    assert able == taken, 'a method that cannot says so by its objectives'
    if not able:
        return
    model = build_method('RandomMasker', method, 'vit', masks_per_image=2)
    model.set_progress(Progress(60, 100, 10, rank_seed=1, iteration=60))
    losses = model.loss(inputs_of(model))
    total(losses).backward()
    assert torch.isfinite(total(losses))
    assert [name for name, one in model.named_parameters() if one.requires_grad and one.grad is None] == []


def of_objectives(**parts: Any) -> Pretrainer:
    pixels = dict(type='MaskedPrediction', target=dict(type='Pixels'), decoder=dict(type='LinearDecoder'))
    config = dict(objectives=dict(predict=pixels), masker=UNEQUAL, masks_per_image=M)
    return MODELS.build({**config, 'type': 'Pretrainer', 'backbone': VIT, **parts})


@MODELS.register_module()
class Unthinking(KoLeo):
    """An objective that does not say whether it can have several masks of an image."""

    several_masks = Objective.several_masks


MODELS.module_dict.pop('Unthinking')  # or every other test would find it

FIXED = dict(type='AttMaskLow', ratio=0.5, image_prob=1.0)
CONTRAST = dict(type='KeyContrast', neck=mlp(), predictor=mlp(), head=dict(type='MoBYHead', queue_size=12))


@pytest.mark.parametrize(
    ('parts', 'message'),
    [
        (dict(masks_per_image=0), r'Pretrainer\.masks_per_image is 0'),
        (dict(masks_per_image=True), r'Pretrainer\.masks_per_image is True'),
        (dict(masker=None, objectives=dict(koleo=dict(type='KoLeo'))), 'there is no masker, .* leave it 1'),
        (dict(objectives=dict(a=CONTRAST)), r"the objective 'a' \(KeyContrast\) is defined for one mask"),
        (dict(objectives=dict(a=dict(type=Unthinking))), r"'a' \(Unthinking\) is defined for one mask"),
        (
            dict(masker=dict(type='AttMaskHigh', ratio=0.5, image_prob=1.0), guide='ema'),
            r'is 3, but AttMaskHigh\(ratio=0\.5\) draws nothing, so all .* equal: give a range .* MultinomialMasker',
        ),
        (
            dict(masker=dict(type='MaskerSchedule', phases=[(0, None), (5, UNEQUAL)])),
            'in one of the phases of MaskerSchedule nothing is hidden',
        ),
        (
            dict(masker=dict(type='MaskerSchedule', phases=[(0, UNEQUAL), (5, FIXED)]), guide='ema'),
            r'but AttMaskLow\(ratio=0\.5\) draws nothing',
        ),
    ],
)
def test_what_cannot_have_several_masks_is_refused(parts, message):
    with pytest.raises(UsageError, match=message):
        of_objectives(**copy.deepcopy(parts))


ALIKE: list[dict[str, Any]] = [
    dict(type='AttMaskHigh', ratio=0.5, image_prob=1.0),
    dict(type='AttMaskHint', ratio=0.5, image_prob=1.0, show_max=0.0),
    dict(type='AttentionGuidedMasker', num=2, prob=1.0),
    dict(type='ThrowingMasker', order='ranked'),
    dict(type='TopShareMasker', start=1.0, end=1.0),
    dict(type='PreferenceMasker', preference=1.0, ratio=0.5),
    dict(type='RatioSchedule', masker=dict(type='AttMaskLow', image_prob=1.0), start=0.2, end=0.5, epochs=3),
]
NAMES = sorted(name for name, one in MODELS.module_dict.items() if inspect.isclass(one) and issubclass(one, Masker))


@pytest.mark.parametrize('config', [*ALIKE, *map(masker_config, NAMES)], ids=lambda one: f'{one}'[:60])
def test_a_masker_says_whether_its_draws_differ(config):
    """Two in one iteration, for the same scores and tokens of 16 images."""
    masker = build_masker(config)
    assert masker is not None
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(16, 2, 64, generator=generator).softmax(dim=-1)
    tokens = torch.randn(16, 64, 8, generator=generator)
    masker.set_progress(Progress(60, 100, 10, rank_seed=1, iteration=60))
    context = MaskContext(torch.zeros(16, 3, 64, 64), (8, 8), tokens, scores)
    first, second = (masker.draw(context).hidden for _ in range(2))
    differ = not torch.equal(first, second)
    if isinstance(masker, MODELS.get('MaskerSchedule')):  # with a phase that hides nothing
        assert differ and not masker.varies
        return
    assert masker.varies == differ == (config not in ALIKE)
