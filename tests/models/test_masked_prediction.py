"""MAE, SimMIM, MaskFeat, BEiT and the parts of masked prediction, against the formulas and mmpretrain's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmpretrain.models.heads import SimMIMHead
from mmpretrain.models.necks import SimMIMLinearDecoder
from mmpretrain.models.selfsup import SimMIMSwinTransformer
from torch import Generator, Tensor, nn

from mstkit.errors import UsageError
from mstkit.models import MaskedBackbone, Masker, Objective, Pixels, Pretrainer, Target
from mstkit.models.objectives.masked_prediction import patch_errors, weighted_mean
from mstkit.models.step import Step
from mstkit.registry import MODELS
from mstkit.structures import MaskContext, Progress
from mstkit.utils.sincos_positions import sincos_positions
from tests.models.builders import NECK, SWIN, VIT, gradient_of, total
from tests.models.plain_mim import beit_loss, mae_loss, mae_target, maskfeat_loss, patches, position, simmim_loss
from tests.models.tokenizers import GivenIds, Shades

DECODER = dict(type='ViTDecoder', embed_dims=24, num_layers=2, num_heads=2)
LINEAR = dict(type='LinearDecoder')
PLAIN = dict(mean=[0.0], std=[1.0])
BLOCKS = dict(type='RandomMasker', ratio=0.5)


@pytest.fixture(autouse=True)
def registry_as_it_was():
    before = dict(MODELS.module_dict)
    yield
    MODELS.module_dict.clear()
    MODELS.module_dict.update(before)


class Given(Masker):
    """Hides what it was built with, (B, h, w)."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.mask = mask

    def hide(self, context: MaskContext, generator: Generator) -> Tensor:
        return self.mask.flatten(1)


def build(kind: str, **parts: Any) -> Pretrainer:
    """An initialized model in training mode whose weights, and so its errors, are not small."""
    config: dict[str, Any] = dict(type=kind, backbone=VIT, data_preprocessor=PLAIN)
    own: dict[str, Any] = dict(
        MAE=dict(decoder=DECODER), SimMIM=dict(mask_patch_size=None), BEiT=dict(tokenizer=Shades())
    )
    config |= own.get(kind, {})
    torch.manual_seed(0)
    model = MODELS.build({**config, **parts})
    model.init_weights()
    model.set_progress(Progress(0, 100, 10, rank_seed=1))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(('bias', 'bias_table', 'ln1.weight', 'ln2.weight', 'norm.weight')):
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model.train()


def images(height: int = 32, width: int = 32, batch: int = 3) -> Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


def masks(height: int = 4, width: int = 4, counts: tuple[int, ...] = (10, 12, 4)) -> Tensor:
    order = torch.rand(len(counts), height * width, generator=torch.Generator().manual_seed(2))
    ranks = order.argsort(dim=1).argsort(dim=1)
    return (ranks < torch.tensor(counts)[:, None]).view(len(counts), height, width)


def held_against(model: Pretrainer, shown: Tensor, reference: Any) -> None:
    """The loss and every gradient of one step are those of a reference in float64 on the same weights."""
    loss = model.loss([shown])['loss_predict']
    loss.backward()
    weights = {name: one.detach().double().requires_grad_(one.requires_grad) for name, one in model.named_parameters()}
    expected = reference(weights)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            error = (parameter.grad - weights[name].grad).norm() / (weights[name].grad.norm() + 1e-3)
            assert error < 1e-5, f'{name}: {error}'
        else:
            assert parameter.grad is None


@pytest.mark.parametrize('norm', [True, False])
@pytest.mark.parametrize(('height', 'width'), [(32, 32), (24, 40)])
@pytest.mark.parametrize('counts', [(10, 10, 10), (9, 14, 0)], ids=['equal counts', 'unequal counts'])
def test_a_step_of_mae_is_that_of_its_formulas(norm, height, width, counts):
    mask = masks(height // 8, width // 8, counts)
    model = build('MAE', backbone=dict(VIT, img_size=(height, width)), masker=Given(mask), norm_pix=norm)
    shown = images(height, width)
    held_against(model, shown, lambda weights: mae_loss(shown, mask, weights, 8, (3, 2), norm))


@pytest.mark.parametrize(('height', 'width'), [(32, 32), (24, 40)])
def test_a_step_of_simmim_is_that_of_its_formulas(height, width):
    mask = masks(height // 8, width // 8)
    model = build('SimMIM', backbone=dict(VIT, img_size=(height, width)), masker=Given(mask))
    shown = images(height, width)
    held_against(model, shown, lambda weights: simmim_loss(shown, mask, weights, 8, 3))


@pytest.mark.parametrize('relative', ['shared', 'per_layer'])
@pytest.mark.parametrize(('height', 'width'), [(32, 32), (24, 40)])
def test_a_step_of_simmims_own_vit_is_that_of_its_formulas(height, width, relative):
    """LayerScale, biases by relative position, no absolute positions, no bias of keys."""
    mask = masks(height // 8, width // 8)
    parts = dict(layer_scale_init_value=0.1, relative_positions=relative, positions='none', qkv_bias='qv_bias')
    network = dict(VIT, img_size=(height, width), initialization='beit', **parts)
    model = build('SimMIM', backbone=network, masker=Given(mask))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if 'bias' in name or 'gamma' in name:
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
    shown = images(height, width)
    held_against(model, shown, lambda weights: simmim_loss(shown, mask, weights, 8, 3))
    assert not any(name.endswith(('pos_embed', 'qkv.bias')) for name, _ in model.named_parameters())


@pytest.mark.parametrize(('height', 'width', 'side'), [(32, 32, 8), (24, 40, 8), (32, 48, 16)])
def test_a_step_of_maskfeat_is_that_of_its_formulas(height, width, side):
    mask = masks(height // side, width // side, (4, 6, 2))
    model = build('MaskFeat', backbone=dict(VIT, img_size=(height, width), patch_size=side), masker=Given(mask))
    shown = images(height, width)
    held_against(model, shown, lambda weights: maskfeat_loss(shown, mask, weights, side, 3))


@pytest.mark.parametrize(
    'own', [{}, dict(positions='learned', relative_positions=None, qkv_bias=True)], ids=['', 'ViT']
)
@pytest.mark.parametrize(('height', 'width'), [(32, 32), (24, 40)])
def test_a_step_of_beit_is_that_of_its_formulas(height, width, own):
    mask = masks(height // 8, width // 8)
    ids = torch.randint(0, 12, mask.flatten(1).shape, generator=torch.Generator().manual_seed(7))
    backbone = dict(VIT, img_size=(height, width), **own)
    model = build('BEiT', backbone=backbone, masker=Given(mask), tokenizer=GivenIds(ids))
    shown = images(height, width)
    held_against(model, shown, lambda weights: beit_loss(shown, mask, ids, weights, 8, 3))


def test_a_step_of_simmim_with_a_swin_is_mmpretrains():
    """Window attention is not written here again: mmpretrain's own SimMIM has the same weights and the same loss."""
    mask = masks(7, 7, (30, 20, 49))
    model = build('SimMIM', backbone=SWIN, masker=Given(mask))
    shown = images(224, 224)
    theirs = SimMIMSwinTransformer(**{key: value for key, value in SWIN.items() if key != 'type'})
    decoder = SimMIMLinearDecoder(in_channels=192, encoder_stride=32)
    head = SimMIMHead(4, dict(type='mmpretrain.PixelReconstructionLoss', criterion='L1', channel=3))
    state = {name.removeprefix('backbone.'): one for name, one in model.state_dict().items() if 'backbone' in name}
    theirs.load_state_dict({**state, 'mask_token': model.get_parameter('mask_token').detach()[None, None]})
    linear = model.objectives['predict'].decoder.to_values
    decoder.decoder[0].load_state_dict(dict(weight=linear.weight.detach()[..., None, None], bias=linear.bias.detach()))
    fine = mask.repeat_interleave(8, 1).repeat_interleave(8, 2)
    theirs.train()
    expected = head.loss(decoder(theirs(shown, fine)[0]), shown, fine.float())
    loss = model.loss([shown])['loss_predict']
    loss.backward()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    gradients = {name: one.grad for name, one in theirs.named_parameters()}
    assert set(gradients) == {name for name, _ in model.get_submodule('backbone').named_parameters()} | {'mask_token'}
    for name, parameter in model.get_submodule('backbone').named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-4, atol=1e-6, msg=name)
    torch.testing.assert_close(
        model.get_parameter('mask_token').grad, gradients['mask_token'].flatten(), rtol=1e-4, atol=1e-6
    )
    torch.testing.assert_close(linear.weight.grad, decoder.decoder[0].weight.grad[..., 0, 0], rtol=1e-4, atol=1e-6)


# -- targets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('norm', [True, False])
def test_pixels_are_those_of_a_plain_loop(norm):
    shown = images(24, 40)
    found = Pixels(8, norm=norm)(shown, (3, 5))
    assert found.shape == (3, 15, 192) and Pixels(8).dims == 192
    for image, rows in zip(shown, found, strict=True):
        for (_, _, pixels), values in zip(patches(image, 8), rows, strict=True):
            torch.testing.assert_close(values.double(), mae_target(pixels.double(), norm), rtol=1e-5, atol=1e-5)
    other = Pixels(8, norm=norm, order='channel row column')(shown, (3, 5))
    expected = found.view(3, 15, 64, 3).transpose(2, 3).flatten(2)
    torch.testing.assert_close(other, expected)


@pytest.mark.parametrize('norm', [True, False])
@pytest.mark.parametrize('order', ['row column channel', 'channel row column'])
def test_pixels_go_back_to_images(norm, order):
    shown, target = images(24, 40), Pixels(8, norm=norm, order=order)
    torch.testing.assert_close(target.to_images(target(shown, (3, 5)), shown, (3, 5)), shown, rtol=1e-4, atol=1e-5)


def test_an_even_patch_has_a_target():
    assert not Pixels(8, norm=True)(torch.ones(1, 3, 8, 8), (1, 1)).any()


def test_positions_are_those_of_mae():
    found = sincos_positions((3, 5), 24)
    expected = torch.stack([position(row, column, 24) for row in range(3) for column in range(5)])
    torch.testing.assert_close(found[0].double(), expected, rtol=1e-6, atol=1e-6)


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
    model = build(method.split()[0], backbone=SWIN if swin else VIT, masker=dict(type=name, **ARGUMENTS.get(name, {})))
    size = 224 if swin else 32
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


def test_mae_starts_as_its_code_says():
    """Xavier-uniform linear layers and patch projection, zero biases, 0.02 for both tokens, fixed positions."""
    backbone = dict(VIT, arch=dict(embed_dims=192, num_layers=2, num_heads=3, feedforward_channels=768))
    torch.manual_seed(0)
    model = MODELS.build(dict(type='MAE', backbone=backbone, decoder=dict(DECODER, embed_dims=96)))
    model.init_weights()
    projection = 'backbone.patch_embed.projection'
    for name, parameter in model.named_parameters():
        if name.endswith(('ln1.weight', 'ln2.weight', 'norm.weight')):
            assert torch.equal(parameter, torch.ones_like(parameter)), name
        elif name == f'{projection}.bias':  # a convolution's own default
            assert 0 < parameter.abs().max() <= 192**-0.5
        elif name.endswith('bias'):
            assert not parameter.any(), name
        elif name.endswith('_token'):
            assert parameter.std().item() == pytest.approx(0.02, rel=0.3), name
        elif name == 'backbone.pos_embed':
            assert not parameter.requires_grad and not parameter[:, 0].any()
            assert torch.equal(parameter[:, 1:], sincos_positions((4, 4), 192))
        else:
            flat = parameter.flatten(1)
            bound = (6 / sum(flat.shape)) ** 0.5
            assert 0.98 * bound < flat.abs().max() <= bound, name
            assert flat.std().item() == pytest.approx(bound / 3**0.5, rel=0.03), name
    names = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert names == {'backbone.pos_embed'}
    learned = build('MAE', backbone=dict(VIT, positions='learned', initialization='trunc_normal'))
    assert learned.get_parameter('backbone.pos_embed').requires_grad


@pytest.mark.parametrize('kind', ['MaskFeat', 'BEiT'])
def test_linear_heads_start_as_their_codes_say(kind):
    """Through a whole model: no init_weights of a model reaches the parts of its objectives."""
    linear: Any = build(kind).get_submodule('objectives.predict.decoder.to_values')
    assert linear.weight.std().item() == pytest.approx(0.02, rel=0.1)


def test_simmim_starts_as_its_code_says():
    model = build('SimMIM', backbone=dict(VIT, arch=dict(VIT['arch'], embed_dims=192)))
    assert (
        model.get_parameter('mask_token').std().item() == pytest.approx(0.02, rel=0.3)
        and model.decayed_parameters == ()
    )
    weight = MODELS.build(dict(LINEAR, in_channels=64, out_channels=500)).to_values.weight
    assert weight.std().item() == pytest.approx(1 / (3 * 64) ** 0.5, rel=0.03) and weight.abs().max() <= 1 / 8


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
    predict = model.objectives['predict']
    monkeypatch.setattr(predict.decoder, 'forward', lambda seen: predict.target(images(), seen.grid))
    torch.testing.assert_close(model.panel(images()).reconstruction, images(), rtol=1e-4, atol=1e-5)


def test_decoders_in_half_precision():
    for kind in ('MAE', 'SimMIM'):
        with torch.autocast('cpu', dtype=torch.bfloat16):
            loss = build(kind).loss([images()])['loss_predict']
        assert loss.dtype == torch.float32 and torch.isfinite(loss)
