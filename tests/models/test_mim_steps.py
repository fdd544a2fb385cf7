"""One step of MAE and its relatives, and their start, against the formulas and mmpretrain's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmpretrain.models.heads import SimMIMHead
from mmpretrain.models.necks import SimMIMLinearDecoder
from mmpretrain.models.selfsup import SimMIMSwinTransformer
from torch import Tensor

from mstkit.models import Pixels, Pretrainer
from mstkit.registry import MODELS
from mstkit.utils.sincos_positions import sincos_positions
from tests.models.builders import SWIN, VIT
from tests.models.mim_models import DECODER, LINEAR, Given, build, images, masks
from tests.models.parity import check_gradients, in_float64
from tests.models.plain_mim import (
    beit_loss,
    data2vec_loss,
    dbot_loss,
    mae_loss,
    mae_target,
    maskfeat_loss,
    patches,
    position,
    simmim_loss,
)
from tests.models.tokenizers import GivenIds


def held_against(model: Pretrainer, shown: Tensor, reference: Any) -> None:
    """The loss and every gradient of one step are those of a reference in float64 on the same weights."""
    loss = model.loss([shown])['loss_predict']
    loss.backward()
    weights = in_float64(model)
    expected = reference(weights)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    check_gradients(model, weights)


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


@pytest.mark.parametrize('top', [None, 2, 3])
@pytest.mark.parametrize(('height', 'width'), [(32, 32), (24, 40)])
def test_a_step_of_data2vec_is_that_of_its_formulas(height, width, top):
    """The teacher has weights of its own, dropout and stochastic depth are the student's alone."""
    mask = masks(height // 8, width // 8)
    target = dict(type='TeacherLayers', top=top, norm_mean=True)
    backbone = dict(VIT, img_size=(height, width), layer_scale_init_value=0.3)
    model = build('Data2Vec', backbone=backbone, masker=Given(mask), target=target)
    with torch.no_grad():
        for name, parameter in model.teacher.named_parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3 if 'bias' in name else 0.02)
        model.objectives['predict'].decoder.to_values.weight.mul_(30)  # errors on both sides of beta
    shown = images(height, width)
    teacher = {name: one.detach().double() for name, one in model.teacher.named_parameters()}
    teacher |= {name: one.double() for name, one in model.teacher.named_buffers() if one.is_floating_point()}
    count = 1 if top is None else top
    held_against(model, shown, lambda weights: data2vec_loss(shown, mask, weights, teacher, 8, 3, count))


@pytest.mark.parametrize(('height', 'width'), [(32, 32), (24, 40)])
def test_a_step_of_dbot_is_that_of_its_formulas(height, width):
    mask = masks(height // 8, width // 8, (9, 14, 0))
    model = build('DBOT', backbone=dict(VIT, img_size=(height, width)), masker=Given(mask))
    network = model.objectives['predict'].target.network
    with torch.no_grad():
        for name, parameter in network.backbone.named_parameters():
            if name != 'pos_embed':  # fixed
                parameter.add_(torch.randn_like(parameter), alpha=0.3 if 'bias' in name else 0.02)
        model.objectives['predict'].decoder.predict.weight.mul_(3)  # errors on both sides of beta
    shown = images(height, width)
    frozen = {f'backbone.{name}': one.detach().double() for name, one in network.backbone.named_parameters()}
    held_against(model, shown, lambda weights: dbot_loss(shown, mask, weights, frozen, 8, (3, 2)))
    assert not any(parameter.requires_grad for parameter in network.parameters())


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


def test_positions_are_those_of_mae():
    found = sincos_positions((3, 5), 24)
    expected = torch.stack([position(row, column, 24) for row in range(3) for column in range(5)])
    torch.testing.assert_close(found[0].double(), expected, rtol=1e-6, atol=1e-6)


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
