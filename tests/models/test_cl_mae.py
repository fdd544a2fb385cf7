"""CL-MAE: both passes of a step against their formulas, the curriculum, who learns from what, what does not fit."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import Tensor
from torch.nn import functional as F

from mstkit.errors import UsageError
from mstkit.models import MaskedVisionTransformer, MaskingTransformer, Pretrainer, Step
from mstkit.models.objectives.curriculum_masking import divergence, likeness, pushed_apart
from mstkit.models.objectives.patch_losses import patch_errors
from mstkit.registry import MODELS
from mstkit.structures import Progress
from tests.models.builders import SMALL_BACKBONES, VIT, gradient_of, mst, total, views
from tests.models.mim_models import DECODER, Given, build, images, masks
from tests.models.parity import check_gradients, in_float64
from tests.models.plain_cl_mae import (
    NETWORK,
    hidden_patches,
    placed_patches,
    regular_terms,
    soft_error,
    visibilities,
)
from tests.models.plain_mim import mae_loss

SMALL: dict[str, Any] = dict(num_layers=2, num_heads=4)
HIDE: dict[str, Any] = dict(type='CurriculumMasking', network=SMALL)
LEARNED: dict[str, Any] = dict(type='AttMaskHigh', ratio=0.75, image_prob=1.0)


def cl_mae(**parts: Any) -> Pretrainer:
    """With visibilities that are not all near a half; in the fourth of ten epochs, where the factor is 0.4."""
    model = build('CLMAE', **{**dict(decoder=DECODER, network=SMALL), **parts})
    spread_out(model)
    model.set_progress(Progress(30, 100, 10, rank_seed=1))
    return model


def spread_out(model: Pretrainer) -> None:
    with torch.no_grad():
        model.objectives.hide.network.visibility.bias.normal_(-1.0, 1.5, generator=torch.Generator().manual_seed(5))


def in_any(kind: str, backbone: str = 'vit', **parts: Any) -> Pretrainer:
    """A method with the objective and masks by its network."""
    parts = dict(masker=dict(LEARNED), guide='learned', objectives=dict(hide=HIDE), **parts)
    model = build(kind, backbone=SMALL_BACKBONES[backbone], **parts)
    spread_out(model)
    return model


def images_for(backbone: str) -> Tensor:
    side = 32 if backbone == 'vit' else 128
    return images(side, side)


def is_masking(name: str) -> bool:
    return name.startswith(f'{NETWORK}.')


@pytest.mark.parametrize('norm', [False, True])
def test_both_passes_of_a_step_are_those_of_their_formulas(norm):
    """One backward pass: encoder and decoder learn by the hard masks, the masking network by the soft ones."""
    model, shown = cl_mae(norm_pix=norm), images()
    losses = model.loss([shown])
    total(losses).backward()
    weights, heads = in_float64(model), (3, 2)
    p = torch.stack([visibilities(placed_patches(one, weights, 8).detach(), weights, 4) for one in shown])
    mask = torch.stack([hidden_patches(one, 0.75) for one in p]).view(3, 4, 4)
    assert mask.sum(dim=(1, 2)).tolist() == [12, 12, 12]
    predict = mae_loss(shown, mask, weights, 8, heads, norm)
    error = soft_error(shown, p, weights, 8, heads, norm)
    gauss, kl, alike = regular_terms(p, 0.25)
    hide = 0.4 * error + gauss + 0.1 * kl + 2.0 * alike
    assert losses['loss_predict'].item() == pytest.approx(predict.item(), rel=1e-5)
    assert losses['loss_hide'].item() == pytest.approx(hide.item(), rel=1e-5)
    trained = {name: one for name, one in weights.items() if one.requires_grad}
    for loss, masking in ((predict, False), (hide, True)):
        names = [name for name in trained if is_masking(name) == masking]
        found = torch.autograd.grad(loss, [trained[name] for name in names], retain_graph=True)
        for name, gradient in zip(names, found, strict=True):
            trained[name].grad = gradient
    check_gradients(model, weights)
    statistics = {name: value.item() for name, value in model.last_statistics().items()}
    assert statistics['mask_factor'] == pytest.approx(0.4) and statistics['hidden_fraction'] == 0.75
    assert statistics['mask_error'] == pytest.approx(error.item(), rel=1e-5)
    assert statistics['mask_visibility'] == pytest.approx(p.mean().item(), rel=1e-5)
    assert statistics['mask_likeness'] == pytest.approx(alike.item(), rel=1e-5)
    decided = ((p < 0.1) | (p > 0.9)).double().mean().item()
    assert statistics['mask_decided'] == pytest.approx(decided, rel=1e-5) and 0 < decided < 1


def test_neither_pass_trains_the_others_weights():
    """With one loss alone, its own weights get what they get of both, and the others nothing, to the bit."""
    found = {}
    for own in ('both', 'predict', 'hide'):
        model = cl_mae()
        losses = model.loss([images()])
        (total(losses) if own == 'both' else losses[f'loss_{own}']).backward()
        found[own] = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    for name, gradient in found['both'].items():
        assert gradient is not None
        own, other = ('hide', 'predict') if is_masking(name) else ('predict', 'hide')
        assert found[other][name] is None, name
        assert torch.equal(found[own][name], gradient), name


SEEN = [('MAE', 'vit'), ('SimMIM', 'vit'), ('SimMIM', 'small swin'), ('MaskFeat', 'small swin'), ('BEiT', 'vit')]


@pytest.mark.parametrize(('kind', 'backbone'), SEEN)
def test_the_masking_network_learns_through_every_kind_of_encoder(kind, backbone):
    """Its gradient is that of the loss written with the backbone's own visibility, and nobody else has it."""
    model, shown = in_any(kind, backbone), images_for(backbone)
    objective, predicting = model.objectives.hide, model.objectives.predict
    model.loss([shown])['loss_hide'].backward()
    parameters = dict(model.named_parameters())
    found = {name: p.grad for name, p in parameters.items() if p.grad is not None}
    assert found and all(map(is_masking, found))
    tokens, grid = model.backbone.patch_embeddings(shown)
    assert grid == ((4, 4) if backbone == 'vit' else (32, 32))
    cell = grid[0] // 4
    cells = F.avg_pool2d(tokens.detach().transpose(1, 2).unflatten(2, grid), cell).flatten(2).transpose(1, 2)
    p = objective.network(cells)
    soft = p.unflatten(1, (4, 4))
    seen: Any
    if kind == 'MAE':
        nothing = torch.zeros(3, 4, 4, dtype=torch.bool)
        seen = model.backbone.forward_visible(shown, nothing, visibility=soft)
    else:
        assert model.mask_token is not None and model.mask_token.abs().sum() > 0
        seen = model.backbone.forward_tokens(shown, mask_token=model.mask_token, visibility=soft)
    target = predicting.target(shown, (4, 4))
    errors = patch_errors(predicting.decoder(seen), target, predicting.loss)
    error = ((1 - p) * errors).sum() / (1 - p).sum()
    whole = error + pushed_apart(p) + 0.1 * divergence(p, 0.25) + 2 * likeness(p)
    names = [name for name in parameters if is_masking(name)]
    expected = torch.autograd.grad(whole, [parameters[name] for name in names], retain_graph=True)
    for name, gradient in zip(names, expected, strict=True):
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6, msg=name)
    for part in (error, pushed_apart(p)):
        slope = torch.autograd.grad(part, p, retain_graph=True)[0]
        assert (slope != 0).all()


def test_in_ibot_the_errors_are_cross_entropies_with_the_teachers_patches():
    hide = dict(HIDE, of='patch')
    masker = dict(LEARNED, ratio=0.5)
    model = mst(
        type='IBOT',
        decoder=...,
        patch_head=dict(type='IBOTHead'),
        masker=masker,
        guide='learned',
        objectives=dict(hide=hide),
    )
    spread_out(model)
    model.set_progress(Progress(0, 10, 5))
    step = Step(model, views(batch=3, local=0))
    patch = model.objectives.patch
    distilled = patch(step)
    pending = len(patch.head._pending)
    errors = patch.errors_of(step, model.student_forward(step.images, step.mask))
    assert step.mask is not None
    hidden = step.mask.flatten(1)
    assert torch.stack(
        [one[where].mean() for one, where in zip(errors, hidden, strict=True)]
    ).mean().item() == pytest.approx(distilled.item(), rel=1e-5)
    assert len(patch.head._pending) == pending, 'the center does not count a patch twice'
    model.objectives.hide(step).backward()
    found = {name for name, p in model.named_parameters() if p.grad is not None}
    assert found and all(map(is_masking, found))


@pytest.mark.parametrize('kind', ['inner layer', 'cross attention', 'teacher layers'])
def test_errors_of_other_predictions(kind):
    """From an inner block, by a decoder that reads one, and of features of a teacher."""
    if kind == 'teacher layers':
        model = in_any('Data2Vec')
    elif kind == 'cross attention':
        cross = dict(type='CrossAttentionDecoder', attends_to=1, embed_dims=24, num_layers=1, num_heads=2)
        model = cl_mae(decoder=cross)
    else:
        inner = dict(type='MaskedPrediction', target=dict(type='HOG', cell_size=4), decoder=DECODER, layer=1)
        model = build(
            'Pretrainer',
            masker=dict(LEARNED),
            guide='learned',
            encoder_sees='visible',
            global_views=1,
            objectives=dict(inner=inner, hide=HIDE),
        )
    losses = model.loss([images()])
    total(losses).backward()
    assert torch.isfinite(losses['loss_hide']) and model.last_statistics()['mask_error'] > 0
    assert all(gradient_of(p).abs().sum() > 0 for p in model.objectives.hide.network.parameters())


@pytest.mark.parametrize('epochs', [10, 7, 1, 200])
def test_the_curriculum_is_that_of_its_code(epochs):
    model = cl_mae()
    factors = []
    for epoch in range(epochs):
        model.set_progress(Progress(3 * epoch + 1, 3 * epochs, 3))
        factors.append(model.objectives.hide.factor)
        after = epoch if epoch < epochs / 2 else epoch + 1
        assert factors[-1] == pytest.approx(1 - 2 * after / epochs, abs=1e-12)
    assert factors[0] == 1 and factors == sorted(factors, reverse=True)
    assert factors[-1] == (-1 if epochs > 1 else 1)


def test_the_factor_may_stay():
    model = cl_mae(factor=(-1.0, -1.0))
    for step in (0, 50, 99):
        model.set_progress(Progress(step, 100, 10))
        assert model.objectives.hide.factor == -1


@pytest.mark.parametrize('batch', [2, 3, 7])
def test_the_terms_are_those_of_loops(batch):
    p = torch.rand(batch, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    found = pushed_apart(p), divergence(p, 0.25), likeness(p)
    expected = regular_terms(p, 0.25)
    for one, other in zip(found, expected, strict=True):
        assert one.item() == pytest.approx(other.item(), rel=1e-9)
        slopes = [torch.autograd.grad(term, p, retain_graph=True)[0] for term in (one, other)]
        torch.testing.assert_close(*slopes)


def test_the_terms_at_their_ends():
    decided = (torch.arange(16) < 4).float().expand(3, -1)
    assert pushed_apart(decided).item() < 1e-4 and divergence(decided, 0.25).item() == pytest.approx(0, abs=1e-6)
    assert likeness(decided).item() == 1
    assert pushed_apart(torch.full((2, 3), 0.5)).item() == pytest.approx(0.12 * math.sqrt(2 * math.pi))
    assert likeness(decided[:1]).item() == 0, 'a single image is like no other'


@pytest.mark.parametrize('bias', [-200.0, 200.0])
def test_networks_that_hide_everything_or_nothing_stay_finite(bias):
    model = cl_mae()
    with torch.no_grad():
        model.objectives.hide.network.visibility.bias.fill_(bias)
    losses = model.loss([images()])
    total(losses).backward()
    assert torch.isfinite(total(losses))
    assert all(torch.isfinite(gradient_of(p)).all() for p in model.parameters() if p.requires_grad)


def test_a_single_image_and_no_gradient():
    model = cl_mae()
    losses = model.loss([images(batch=1)])
    total(losses).backward()
    assert model.last_statistics()['mask_likeness'] == 0
    with torch.no_grad():
        again = model.loss([images(batch=1)])
    assert again['loss_hide'].item() == pytest.approx(losses['loss_hide'].item(), rel=1e-6)


@pytest.mark.parametrize('factor', [1.0, -1.0])
def test_a_step_of_the_network_moves_the_error_as_the_factor_says(factor):
    """Partner: the student's error falls. Adversary: it rises."""
    model = cl_mae(factor=(factor, factor), gauss_weight=0.0, kl_weight=0.0, diversity_weight=0.0)
    model.loss([images()])['loss_hide'].backward()
    before = model.last_statistics()['mask_error'].item()
    network = list(model.objectives.hide.network.parameters())
    length = torch.stack([gradient_of(p).norm() for p in network]).norm()
    with torch.no_grad():
        for parameter in network:
            parameter -= 0.02 / length * gradient_of(parameter)
    model.loss([images()])
    change = model.last_statistics()['mask_error'].item() - before
    assert change * factor < 0, change


def test_the_guide_scores_by_what_is_not_visible_and_the_network_runs_once(monkeypatch):
    model, shown = cl_mae(), images()
    network, calls = model.objectives.hide.network, []
    network.register_forward_hook(lambda module, inputs, output: calls.append(output))
    step = Step(model, [shown])
    assert step.mask is not None
    model.objectives.hide(step)
    assert len(calls) == 1
    p = calls[0]
    torch.testing.assert_close(step.guidance.attention, (1 - p)[:, None])  # type: ignore[union-attr]
    assert not step.guidance.attention.requires_grad  # type: ignore[union-attr]
    hidden = step.mask.flatten(1)
    for one, where in zip(p, hidden, strict=True):
        assert one[where].max() < one[~where].min() and where.sum() == 12
    encoded = model.guide.encode(model, shown, model.masker)
    assert torch.equal(encoded.attention, step.guidance.attention)  # type: ignore[union-attr]


def test_masks_by_others_train_the_network_too():
    """It learns under a random mask, and from its own guide or none."""
    model = build('MAE', masker=Given(masks()), objectives=dict(hide=HIDE))
    assert model.objectives.hide.ratio == 0.75
    total(model.loss([images()])).backward()
    assert all(gradient_of(p).abs().sum() > 0 for p in model.objectives.hide.network.parameters())


@pytest.mark.parametrize(
    ('masker', 'ratio', 'expected'),
    [
        (LEARNED, None, 0.75),
        (dict(type='TopShareMasker', ratio=0.6), None, 0.6),
        (dict(type='MultinomialMasker', ratio=(0.4, 0.6)), None, 0.5),
        (dict(type='BlockMasker', ratio=0.4, image_prob=1.0), None, 0.4),
        (dict(type='RandomMasker', ratio=0.5), None, 0.5),
        (dict(type='RandomMasker', prob=0.5), None, 0.75),
        (dict(type='AttentionGuidedMasker', num=2, prob=0.5), None, 0.75),
        (LEARNED, 0.6, 0.6),
    ],
)
def test_the_mean_visibility_follows_the_masker(masker, ratio, expected):
    assert cl_mae(masker=masker, ratio=ratio).objectives.hide.ratio == pytest.approx(expected)


def test_views_of_several_kinds_and_coarse_masks():
    """Two global views and a mask of squares of patches, whose scores are means."""
    model = cl_mae(global_views=2, mask_patch_size=16)
    two = [images(), images(batch=3) + 1]
    step = Step(model, two)
    assert step.mask is not None and step.mask.shape == (6, 4, 4)
    p = model.objectives.hide.visibilities(step)
    means = F.avg_pool2d(p.view(6, 4, 4), 2).flatten(1)
    for mean, where in zip(means, step.mask[:, ::2, ::2].flatten(1), strict=True):
        assert where.sum() == 3 and not where[mean.argmax()]
    total(model.loss(two)).backward()


def test_activation_checkpointing_changes_nothing():
    found = []
    for with_cp in (False, True):
        model = cl_mae(backbone=dict(VIT, with_cp=with_cp))
        total(model.loss([images()])).backward()
        found.append([gradient_of(p) for p in model.parameters() if p.requires_grad])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_half_precision_keeps_the_gradient():
    """Under autocast the visibilities are float32, and the network's gradient points where that of float32 does."""
    found = []
    for enabled in (False, True):
        model = cl_mae()
        with torch.autocast('cpu', torch.bfloat16, enabled=enabled):
            step = Step(model, [images()])
            losses = {name: one(step) for name, one in model.objectives.items()}
        assert step.visibilities['hide'].dtype == losses['hide'].dtype == torch.float32
        total(losses).backward()
        found.append(torch.cat([gradient_of(p).flatten() for p in model.objectives.hide.parameters()]))
    assert F.cosine_similarity(found[0], found[1], dim=0) > 0.99


def test_the_masking_network_has_a_learning_rate_of_its_own():
    model = cl_mae(network=dict(SMALL, lr_mult=0.25))
    config = dict(optimizer=dict(type='AdamW', lr=1e-3), constructor='TrainableOptimWrapperConstructor')
    wrapper = build_optim_wrapper(model, config)
    rates = {id(p): group['lr'] for group in wrapper.optimizer.param_groups for p in group['params']}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert rates[id(parameter)] == pytest.approx(2.5e-4 if is_masking(name) else 1e-3), name


def test_parts_are_those_of_its_code():
    model = MODELS.build(dict(type='CLMAE', backbone=dict(type='MaskedVisionTransformer', arch='base')))
    hide, predict = model.objectives.hide, model.objectives.predict
    network = hide.network
    assert len(network.layers) == 5 and network.layers[0].attn.num_heads == 4 and network.lr_mult == 1
    assert network.layers[0].attn.qkv.weight.shape == (3 * 768, 768)
    assert network.layers[0].ffn.layers[0][0].weight.shape == (4 * 768, 768)
    assert network.visibility.weight.shape == (196, 768) and network.norm.eps == network.layers[0].ln1.eps == 1e-5
    assert (hide.ratio, hide.gauss_weight, hide.kl_weight, hide.diversity_weight) == (0.75, 1.0, 0.1, 2.0)
    assert hide.ends == (1.0, -1.0) and hide.of == 'predict' and not predict.target.norm
    assert len(predict.decoder.layers) == 8 and model.masker.ratio == (0.75, 0.75) and model.teacher is None


def test_initialization():
    torch.manual_seed(0)
    network: Any = MaskingTransformer(channels=64, patches=16, num_layers=1)
    network.init_weights()
    weight = network.layers[0].ffn.layers[1].weight
    assert weight.abs().max() <= math.sqrt(6 / (64 + 256)) and weight.std() > 0.05
    assert 0.01 < network.cls_token.std() < 0.03
    assert all(not p.any() for name, p in network.named_parameters() if name.endswith('bias'))
    p = network(torch.randn(5, 16, 64))
    assert p.shape == (5, 16) and (p > 0).all() and (p < 1).all()


def test_a_panel_shows_how_visible_patches_are():
    model, shown = cl_mae(), images()
    panel = model.panel(shown)
    p = model.objectives.hide.visibilities_of(model.backbone, shown).detach()
    (title, made) = next(iter(panel.further.items()))
    assert title == f'visibility ({100 * p.mean():.0f} %)' and panel.attention_of == 'LearnedMaskGuide'
    wide = p.view(3, 1, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3)
    torch.testing.assert_close(made, shown * wide)
    torch.testing.assert_close(panel.attention, (1 - p).view(3, 4, 4))


@pytest.mark.parametrize(
    'masker', ['PartMasker', 'ObjectMasker', 'MultinomialMasker', 'TopShareMasker', 'ThrowingMasker']
)
def test_any_masker_by_score_or_tokens(masker):
    model = cl_mae(masker=dict(type=masker))
    losses = model.loss([images()])
    total(losses).backward()
    assert torch.isfinite(total(losses)) and model.last_statistics()['hidden_fraction'] > 0


def test_another_objective_asks_for_the_scores():
    model = cl_mae(weighting=dict(temperature=0.5))
    total(model.loss([images()])).backward()


@pytest.mark.parametrize(
    ('kind', 'parts', 'message'),
    [
        ('CLMAE', dict(network=dict(num_heads=5)), r'num_heads is 5, which does not divide the 48 channels'),
        ('CLMAE', dict(network=dict(patches=9)), r'network\.patches is 9, but images have 4x4: leave it out'),
        ('CLMAE', dict(network=dict(type='DINONeck')), 'DINONeck is not a masking network; .*: MaskingTransformer'),
        ('CLMAE', dict(network=dict(lr_mult=-1)), r'MaskingTransformer\.lr_mult is -1'),
        ('CLMAE', dict(ratio=1.0), r'CurriculumMasking\.ratio is 1'),
        ('CLMAE', dict(ratio=1e-30), r'CurriculumMasking\.ratio is 1e-30: give a number in \[1e-06, '),
        ('CLMAE', dict(factor=(1.0,)), r'CurriculumMasking\.factor is \(1\.0,\): give two numbers'),
        ('CLMAE', dict(gauss_weight=-1), r'CurriculumMasking\.gauss_weight is -1'),
        ('CLMAE', dict(loss_weight_hide=-1), r'CLMAE\.loss_weight_hide is -1'),
        ('MAE', dict(masker=LEARNED, guide='learned'), r'no objective learns what to hide: add model\.objectives=dict'),
        (
            'CLMAE',
            dict(guide=dict(type='learned', objective='other')),
            "there is no CurriculumMasking 'other': give objective='hide'",
        ),
        ('CLMAE', dict(objectives=dict(two=HIDE)), "several objectives learn what to hide: give objective='hide' or"),
        (
            'MAE',
            dict(objectives=dict(hide=dict(HIDE, of='pixels'))),
            r"CurriculumMasking\.of: there is no objective 'pix",
        ),
        (
            'MSTAlgorithm',
            dict(head=dict(type='DINOHead'), objectives=dict(hide=HIDE)),
            r'CurriculumMasking\.of: there is no objective with a loss of each patch',
        ),
    ],
)
def test_mistakes(kind, parts, message):
    with pytest.raises(UsageError, match=message):
        MODELS.build(dict(type=kind, backbone=VIT, **parts))


def test_views_of_another_size_are_refused():
    model = cl_mae()
    model.check_views(32)
    with pytest.raises(UsageError, match=r'each of 4x4 patches, but views of 48 px have 6x6: set model\.backbone\.img'):
        model.check_views(48)
    with pytest.raises(UsageError, match='views of 48 px have 6x6'):
        model.loss([images(48, 48)])
    larger = build('MAE', objectives=dict(hide=dict(HIDE, image_size=48)))
    larger.check_views(48)
    total(larger.loss([images(48, 48)])).backward()


def test_a_backbone_that_knows_no_size(monkeypatch):
    monkeypatch.setattr(MaskedVisionTransformer, 'built_grid', lambda self: None)
    with pytest.raises(UsageError, match='MaskedVisionTransformer does not say how many an image has: give image_size'):
        MODELS.build(dict(type='CLMAE', backbone=VIT))
