"""Parts of masked prediction in MAE, SimMIM, MaskFeat and BEiT: what they are given, how they fit, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mstkit.errors import UsageError
from mstkit.models import MaskedBackbone, Masker, Objective, Pixels, Target
from mstkit.models.objectives.patch_losses import patch_errors, weighted_mean
from mstkit.models.step import Step
from mstkit.registry import MODELS
from mstkit.structures import MaskContext, Progress
from tests.models.builders import NECK, SMALL_BACKBONES, SWIN, VIT, gradient_of, total
from tests.models.mim_models import BLOCKS, DECODER, LINEAR, Given, build, images, masks


@pytest.fixture(autouse=True)
def registry_as_it_was():
    before = dict(MODELS.module_dict)
    yield
    MODELS.module_dict.clear()
    MODELS.module_dict.update(before)


# -- targets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('norm', [True, False])
@pytest.mark.parametrize('order', ['row column channel', 'channel row column'])
def test_pixels_go_back_to_images(norm, order):
    shown, target = images(24, 40), Pixels(8, norm=norm, order=order)
    torch.testing.assert_close(target.to_images(target(shown, (3, 5)), shown, (3, 5)), shown, rtol=1e-4, atol=1e-5)


def test_an_even_patch_has_a_target():
    assert not Pixels(8, norm=True)(torch.ones(1, 3, 8, 8), (1, 1)).any()


class Halves(Target):
    """Whether a patch is brighter than zero, as an id."""

    discrete = True
    dims = 2

    def forward(self, images, grid, teacher=None):
        return (Pixels(self.patch_size)(images, grid).mean(dim=-1) > 0).long()


class AllTokens(Objective):
    """Reads every token and costs nothing."""

    student_needs = 'all'

    def forward(self, step):
        return step.student.patch_tokens.sum() * 0


@pytest.mark.parametrize('case', ['ViT', 'ViT, all tokens read', 'Swin'])
def test_a_linear_decoder_sees_the_hidden_patches_alone(case):
    """Whatever the encoder computed; loss and gradient are those of predicting all and weighting by the mask."""
    MODELS.register_module(module=AllTokens)
    size, cells = (224, 7) if case == 'Swin' else (32, 4)
    mask, shown = masks(cells, cells), images(size, size)
    more = dict(objectives=dict(more=dict(type='AllTokens'))) if case == 'ViT, all tokens read' else {}
    model = build('SimMIM', backbone=SWIN if case == 'Swin' else VIT, masker=Given(mask), **more)
    linear = model.get_submodule('objectives.predict.decoder.to_values')
    rows: list[int] = []
    handle = linear.register_forward_hook(lambda module, args, made: rows.append(made[..., 0].numel()))
    loss = model.loss([shown])['loss_predict']
    loss.backward()
    handle.remove()
    assert rows == [26] and isinstance(linear.weight, Tensor)
    found = gradient_of(linear.weight).clone()
    model.zero_grad()
    step = Step(model, [shown], read_all=True)
    predict = model.objectives['predict']
    errors = patch_errors(predict.decoder(step.student), predict.target(shown, (cells, cells)), predict.loss)
    expected = (errors * mask.flatten(1)).sum() / 26
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found, gradient_of(linear.weight), rtol=1e-4, atol=1e-6)


class Repeated(Target):
    """The teacher's own tokens, which have a parameter of no use."""

    teacher_needs = 'all'
    dims = 48

    def __init__(self, patch_size: int) -> None:
        super().__init__(patch_size)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images, grid, teacher=None):
        return teacher.patch_tokens * self.scale


def predicting(target: dict[str, Any], decoder: dict[str, Any] = LINEAR, **settings: Any) -> dict[str, Any]:
    return dict(type='MaskedPrediction', target=target, decoder=decoder, **settings)


def test_ids_are_predicted_by_cross_entropy():
    MODELS.register_module(module=Halves)
    mask = masks()
    model = build('SimMIM', target=dict(type='Halves'), loss='cross_entropy', masker=Given(mask))
    step = Step(model, [images()])
    logits = model.objectives['predict'].decoder(step.student).double().log_softmax(dim=-1)
    ids = Halves(8)(images(), (4, 4))
    expected = -logits.gather(2, ids[..., None])[..., 0][mask.flatten(1)].mean()
    torch.testing.assert_close(model.loss([images()])['loss_predict'].double(), expected, rtol=1e-5, atol=1e-6)
    assert model.panel(images()).reconstruction is None
    for target, loss in ((dict(type='Halves'), 'mse'), (dict(type='Pixels'), 'cross_entropy')):
        with pytest.raises(UsageError, match='loss is'):
            build('SimMIM', target=target, loss=loss)


def test_a_target_of_the_teachers_gets_one_and_is_not_trained():
    MODELS.register_module(module=Repeated)
    model = build('SimMIM', target=dict(type='Repeated'), loss='smooth_l1', masker=BLOCKS)
    assert model.teacher_needs == 'all' and model.teacher is not None
    model.loss([images()])['loss_predict'].backward()
    target = model.objectives['predict'].target
    assert (
        not target.scale.requires_grad
        and target.scale.grad is None
        and not model.train().objectives['predict'].target.training
    )


@pytest.mark.parametrize(('loss', 'beta'), [('mse', 1.0), ('l1', 1.0), ('smooth_l1', 1.0), ('smooth_l1', 0.25)])
def test_errors_of_patches(loss, beta):
    predicted, target = torch.randn(2, 3, 7), torch.randn(2, 3, 7)
    difference = (predicted - target).abs().double()
    expected = {
        'mse': difference**2,
        'l1': difference,
        'smooth_l1': torch.where(difference < beta, difference**2 / (2 * beta), difference - beta / 2),
    }[loss].mean(dim=-1)
    torch.testing.assert_close(patch_errors(predicted, target, loss, beta).double(), expected, rtol=1e-5, atol=1e-6)


def test_all_patches_or_the_hidden_ones():
    values, weights = torch.rand(2, 5), torch.rand(2, 5)
    torch.testing.assert_close(weighted_mean(values, weights), (values * weights).sum() / weights.sum())
    assert weighted_mean(values, torch.zeros(2, 5)) == 0
    target = dict(type='Pixels')
    whole = build(
        'Pretrainer', objectives=dict(predict=predicting(target, on='all')), masker=Given(masks()), global_views=1
    )
    step = Step(whole, [images()])
    expected = patch_errors(
        whole.objectives['predict'].decoder(step.student), Pixels(8)(images(), (4, 4)), 'mse'
    ).mean()
    torch.testing.assert_close(whole.loss([images()])['loss_predict'], expected)


# -- what does not fit ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('kind', 'parts', 'message'),
    [
        ('MAE', dict(backbone=SWIN), 'MAE: encoder_sees=.visible., but MaskedSwinTransformer cannot encode .*SimMIM'),
        ('MAE', dict(masker=None), 'MAE predicts hidden patches, but has no masker'),
        ('SimMIM', dict(masker='none'), 'SimMIM predicts hidden patches, but has no masker'),
        ('MAE', dict(decoder=LINEAR), 'LinearDecoder predicts a hidden patch from its own token'),
        ('MAE', dict(decoder=dict(type='CNNImageDecoder')), 'not a decoder of tokens; .* LinearDecoder, ViTDecoder'),
        ('MAE', dict(decoder=dict(DECODER, out_channels=5)), 'decoder.out_channels is 5'),
        ('MAE', dict(decoder=dict(DECODER, num_heads=5)), 'multiple of 5'),
        ('MAE', dict(target=dict(type='Pixels', patch_size=4)), 'target.patch_size is 4'),
        ('MAE', dict(target=dict(type='CNNImageDecoder', in_channels=4)), 'CNNImageDecoder is not a target .* Pixels'),
        ('MAE', dict(objectives=dict(ce=dict(type='PatchDistillation', neck=NECK, head=dict(type='IBOTHead')))), 'ce'),
        ('SimMIM', dict(mask_patch_size=12), 'mask_patch_size is 12'),
        ('MAE', dict(masker=dict(type='AttMaskHigh'), teacher=False), 'AttMaskHigh needs a guide'),
    ],
)
def test_parts_that_do_not_fit_are_refused_when_the_model_is_built(kind, parts, message):
    with pytest.raises(UsageError, match=message):
        build(kind, **parts)


@pytest.mark.parametrize('kind', ['MAE', 'SimMIM', 'MaskFeat', 'BEiT'])
def test_views_that_nothing_reads_are_refused(kind):
    model = build(kind)
    with pytest.raises(UsageError, match=r'would not use 2 more: set global_crops\.count=1 and local_crops\.count=0'):
        model.check_view_count([32, 32, 16])
    two = build(kind, global_views=2)
    two.check_view_count([32, 32])
    assert torch.isfinite(two.loss([images(), images()])['loss_predict'])


# -- any mask -------------------------------------------------------------------------------------------------------

# Maskers that need an argument; every other one that is registered is built from its defaults.
ARGUMENTS: dict[str, dict[str, Any]] = {
    'AttMaskHint': dict(show_max=0.5),
    'MaskerSchedule': dict(phases=[(0, None), (1, BLOCKS)]),
    'RatioSchedule': dict(masker=BLOCKS, start=0.1, end=0.5, epochs=2),
    'ShuffledMasker': dict(masker=BLOCKS),
}
MODELS.import_from_location()
MASKERS = sorted(
    name for name, cls in MODELS.module_dict.items() if issubclass(cls, Masker) and cls.__module__.startswith('mstkit.')
)


METHODS = ['MAE', 'SimMIM', 'SimMIM with a Swin', 'MaskFeat', 'BEiT']  # with each backbone: test_methods.py


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('name', MASKERS)
def test_every_masker_hides_for_every_method(method, name):
    swin = method.endswith('Swin')
    parts = dict(
        backbone=SMALL_BACKBONES['small swin' if swin else 'vit'], masker=dict(type=name, **ARGUMENTS.get(name, {}))
    )
    if MODELS.build(parts['masker']).throws and build(method.split()[0]).encoder_sees == 'mask_token':
        with pytest.raises(UsageError, match=f'masker {name} throws patches'):
            build(method.split()[0], **parts)
        return
    model = build(method.split()[0], **parts)
    size = 128 if swin else 32
    model.check_views(size)
    model.check_view_count([size])
    assert model.masker is not None
    guided = any(part.needs_scores or part.needs_tokens for part in model.masker.parts())
    assert (model.teacher is not None) is guided
    for step in (0, 15):  # of two phases
        model.set_progress(Progress(step, 100, 10, rank_seed=1, iteration=step))
        losses = model.loss([images(size, size, batch=2)])
        assert torch.isfinite(losses['loss_predict'])
        assert bool(losses['loss_predict'] > 0) is bool(model.last_statistics()['hidden_fraction'] > 0)
        losses['loss_predict'].backward()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.requires_grad), 'each has one, for DDP'
        model.after_step()


def test_a_random_mask_costs_no_attention(monkeypatch):
    model = build('MAE')
    assert model.teacher is None and not any('teacher' in key for key in model.state_dict())
    monkeypatch.setattr(model.backbone, 'forward_tokens', None)
    seen = []
    first = model.get_submodule('backbone.layers.0')
    first.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape))
    model.loss([images()])
    assert seen == [(3, 5, 48)], 'the class token and a quarter of 16 patches'


@pytest.mark.parametrize('kind', ['MAE', 'SimMIM', 'MaskFeat', 'BEiT'])
@pytest.mark.parametrize('hidden', [False, True])
def test_nothing_or_everything_hidden(kind, hidden):
    model = build(kind, masker=Given(torch.full((3, 4, 4), hidden)))
    loss = model.loss([images()])['loss_predict']
    loss.backward()
    assert torch.isfinite(loss) and bool(loss > 0) is hidden
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.requires_grad)


def test_a_backbone_that_says_nothing_of_a_class_token_has_none():
    assert MaskedBackbone.num_extra_tokens == 0
    for with_token in (True, False):
        backbone = dict(VIT, with_cls_token=with_token, out_type='cls_token' if with_token else 'avg_featmap')
        model = build('MAE', backbone=backbone)
        assert model.backbone.num_extra_tokens == with_token
        assert model.objectives['predict'].decoder.class_token is with_token


def test_everything_hidden_and_no_class_token_is_refused():
    backbone = dict(VIT, with_cls_token=False, out_type='avg_featmap')
    assert torch.isfinite(build('MAE', backbone=backbone).loss([images()])['loss_predict'])
    with pytest.raises(UsageError, match='all patches of an image are hidden'):
        build('MAE', backbone=backbone, masker=Given(torch.ones(3, 4, 4, dtype=torch.bool))).loss([images()])


@pytest.mark.parametrize(('sides', 'ratio', 'count'), [(7, 0.6, 30), (6, 0.6, 22), (14, 0.75, 147), (10, 0.07, 7)])
def test_ratios_are_rounded_up_as_mae_and_simmim_do(sides, ratio, count):
    masker = MODELS.build(dict(type='RandomMasker', ratio=ratio, rounding='up'))
    mask = masker(MaskContext(torch.zeros(2, 3, 1, 1), (sides, sides)))
    assert mask.flatten(1).sum(dim=1).tolist() == [count] * 2


def test_mixes_of_objectives():
    """A decoder behind an encoder that was given [MASK] tokens; a contrast of views on what MAE's encoder sees."""
    views = dict(type='CrossView', neck=NECK, head=dict(type='DINOHead'))
    pixels = predicting(dict(type='Pixels'), DECODER)
    for sees in ('mask_token', 'visible'):
        model = build('Pretrainer', objectives=dict(ce=views, predict=pixels), masker=BLOCKS, encoder_sees=sees)
        losses = model.loss([images(), images(), images(16, 16)])
        assert set(losses) == {'loss_ce', 'loss_predict'}
        total(losses).backward()
        assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
        assert (model.mask_token is None) is (sees == 'visible')
        assert (model.objectives['predict'].decoder.mask_token is None) is (sees == 'mask_token')


# -- initialization and panels --------------------------------------------------------------------------------------


@pytest.mark.parametrize('kind', ['MAE', 'SimMIM'])
def test_the_panel_shows_the_prediction_as_an_image(monkeypatch, kind):
    mask = masks()
    model = build(kind, masker=Given(mask))
    panel = model.panel(images())
    fine = mask[:, None].repeat_interleave(8, 2).repeat_interleave(8, 3).expand(-1, 3, -1, -1)
    assert panel.attention is None and panel.mask is not None and torch.equal(panel.mask, mask)
    assert panel.reconstruction is not None
    assert torch.equal(panel.reconstruction[~fine], images()[~fine]), 'nothing is asked of visible patches'
    assert not torch.isclose(panel.reconstruction[fine], images()[fine]).all()
    assert panel.reconstruction_with == ('true means' if kind == 'MAE' else '')
    predict = model.objectives['predict']
    monkeypatch.setattr(predict.decoder, 'forward', lambda seen: predict.target(images(), seen.grid))
    torch.testing.assert_close(model.panel(images()).reconstruction, images(), rtol=1e-4, atol=1e-5)


def test_decoders_in_half_precision():
    for kind in ('MAE', 'SimMIM'):
        with torch.autocast('cpu', dtype=torch.bfloat16):
            loss = build(kind).loss([images()])['loss_predict']
        assert loss.dtype == torch.float32 and torch.isfinite(loss)
