"""BootMAE: a step against its formulas, its schedules, and what its decoders read of the encoder."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mstkit.errors import UsageError
from mstkit.models import LinearDecoder, MomentumTeacher, Pretrainer, Step
from mstkit.models.objectives.patch_losses import hidden_around
from mstkit.registry import MODELS
from mstkit.structures import Progress
from tests.models.builders import SMALL_BACKBONES, SWIN, VIT, total, views
from tests.models.mim_models import DECODER, Given, build, images, masks
from tests.models.moby import mlp
from tests.models.parity import check_gradients, in_float64
from tests.models.plain_boot import boot_mae_losses

HEADS = 5  # which does not divide the channels of either decoder
CROSS: dict[str, Any] = dict(type='CrossAttentionDecoder', embed_dims=24, num_layers=1, num_heads=2)


def boot(**parts: Any) -> Pretrainer:
    """With a teacher that is not its student."""
    small = dict(decoder=dict(num_heads=HEADS, embed_dims=24), feature_decoder=dict(num_heads=HEADS))
    model = build('BootMAE', **{**small, **parts})
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith('teacher.') and not name.endswith('pos_embed'):
                parameter.add_(torch.randn_like(parameter), alpha=0.1 if 'bias' in name else 0.02)
            if '.ln_' in name:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


@pytest.mark.parametrize('weigh', [True, False])
@pytest.mark.parametrize(
    ('height', 'width', 'counts'), [(4, 4, (10, 10, 10)), (4, 4, (9, 16, 3)), (3, 5, (0, 8, 7))], ids=str
)
def test_a_step_is_that_of_its_formulas(height, width, counts, weigh):
    """Equal and unequal counts, an image that is hidden whole, one that is not hidden, images that are not square."""
    mask, shown = masks(height, width, counts), images(8 * height, 8 * width)
    network = dict(VIT, img_size=(8 * height, 8 * width))
    model = boot(backbone=network, masker=Given(mask), feature_warmup=0.0, weight_mask=weigh)
    losses = model.loss([shown])
    total(losses).backward()
    weights = in_float64(model)
    teacher = {name: one.detach() for name, one in in_float64(model.teacher).items()}
    pixels, features = boot_mae_losses(shown, mask, weights, teacher, 8, (3, HEADS), weigh)
    (pixels + features).backward()
    assert losses['loss_predict'].item() == pytest.approx(pixels.item(), rel=1e-5)
    assert losses['loss_feature'].item() == pytest.approx(features.item(), rel=1e-5)
    check_gradients(model, weights)


def test_parts_and_schedules_are_those_of_its_code():
    arch = dict(embed_dims=48, num_layers=12, num_heads=3, feedforward_channels=96)
    model = MODELS.build(dict(type='BootMAE', backbone=dict(VIT, arch=arch, img_size=224, patch_size=16)))
    pixel, feature = (model.objectives[name] for name in ('predict', 'feature'))
    for one, block, width, inner in ((pixel, 1, 512, 504), (feature, 12, 48, 48)):
        assert 12 + 1 - one.student_layers == block and len(one.decoder.layers) == 2
        layer = one.decoder.layers[0]
        assert layer.attn.query.weight.shape == (inner, width) and layer.cross.key.weight.shape == (inner, 48)
        assert layer.cross.key.bias is None and layer.attn.key.bias is None and layer.attn.query.bias is not None
        assert layer.ffn.feedforward_channels == 4 * width
    assert set(model.followed()) == {'backbone'} and (model.teacher_needs, feature.teacher_layers) == ('pooled', 1)
    mask = Step(model, [torch.zeros(2, 3, 224, 224)]).mask
    assert mask is not None and mask.flatten(1).sum(dim=1).tolist() == [147, 147]
    assert (model.masker.min_block, model.masker.max_block, round(147 * model.masker.scattered)) == (16, 60, 27)
    momenta, weights = [], []
    for epoch in range(800):
        model.set_progress(Progress(2 * epoch, 1600, 2))
        momenta.append(model.teacher.momentum)
        weights.append(feature.weight)
        assert pixel.weight == 1
    code = [0.999 + i / 100 * (0.9999 - 0.999) for i in range(100)]
    code += [0.9999 + min(300, i - 100) / 300 * (0.99999 - 0.9999) for i in range(100, 800)]
    assert momenta == pytest.approx(code, abs=1e-12)
    assert weights == pytest.approx([min(4 * (1 + epoch) / 800, 1) for epoch in range(800)])


def test_how_it_starts():
    """Uniform within Xavier's bounds, queries, keys and values apart, but for keys and values of a memory."""
    torch.manual_seed(0)
    model = MODELS.build(dict(type='BootMAE', backbone=dict(VIT, arch=dict(VIT['arch'], embed_dims=192))))
    model.init_weights()
    layer, backbone = model.objectives['predict'].decoder.layers[0], model.backbone
    token, projection = model.objectives['predict'].decoder.mask_token, backbone.patch_embed.projection
    bounds = [
        (backbone.layers[0].attn.qkv.weight, 192 + 192),
        (projection.weight, 192 + 3 * 64),
        (layer.attn.query.weight, 504 + 512),
        (layer.attn.key.weight, 504 + 512),
        (layer.cross.query.weight, 504 + 512),
        (layer.cross.key.weight, 2 * 504 + 192),
        (layer.cross.value.weight, 2 * 504 + 192),
    ]
    for weight, sides in bounds:
        bound = (6 / sides) ** 0.5
        assert 0.99 * bound < weight.abs().max() <= bound
        assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
    assert not projection.bias.any() and not layer.cross.value.bias.any()
    assert backbone.cls_token.std() < 2e-6 and token.abs().max() <= 0.02 and token.std() > 0.009


def test_hidden_patches_around():
    mask = torch.tensor([[[1, 1, 0], [1, 1, 0], [0, 0, 0]]]).bool()
    assert (9 * hidden_around(mask)).round().long().tolist() == [[[4, 4, 2], [4, 4, 2], [2, 2, 1]]]
    assert hidden_around(torch.ones(1, 3, 3).bool())[0, 1, 1] == 1


@pytest.mark.parametrize('scale', [0.5, 2.0])
def test_weights_on_finer_and_coarser_grids(scale):
    """A cell counts as often as its patch, or as the mean of its patches."""
    mask = masks(4, 4, (9, 14, 3))
    predict = dict(type='MaskedPrediction', target=dict(type='Pixels'), decoder=DECODER, scale=scale)
    model = build('MAE', masker=Given(mask), objectives=dict(plain=predict, weighed=dict(predict, weight_mask=True)))
    step = Step(model, [images()])
    factors = model.objectives['weighed']._factors(step).unflatten(1, (round(4 * scale),) * 2)
    of_patches = 1 + hidden_around(mask)
    if scale == 2:
        assert torch.equal(factors, of_patches.repeat_interleave(2, 1).repeat_interleave(2, 2))
    else:
        blocks = of_patches.unflatten(1, (2, 2)).unflatten(3, (2, 2))
        torch.testing.assert_close(factors, blocks.mean(dim=(2, 4)))
    assert model.objectives['plain']._factors(step) is None


def test_weights_of_patches_that_are_predicted_one_by_one(monkeypatch):
    """The loss of tokens of the hidden patches alone is that of all tokens, and not that without weights."""
    linear = dict(type='MaskedPrediction', target=dict(type='Pixels'), decoder=dict(type='LinearDecoder'))
    found = []
    for per_patch in (True, False):
        monkeypatch.setattr(LinearDecoder, 'per_patch', per_patch)
        own = dict(plain=linear, weighed=dict(linear, weight_mask=True))
        model = build('Pretrainer', objectives=own, masker=Given(masks(4, 4, (9, 14, 3))), global_views=1)
        model.objectives['weighed'].load_state_dict(model.objectives['plain'].state_dict())
        losses = model.loss([images()])
        assert losses['loss_weighed'] > 1.2 * losses['loss_plain']
        found.append(losses['loss_weighed'].item())
    assert found[0] == pytest.approx(found[1], rel=1e-6)


@pytest.mark.parametrize('registers', [0, 2])
@pytest.mark.parametrize('class_token', [True, False])
def test_an_image_is_predicted_as_by_itself(class_token, registers):
    """So padding is not attended to, whatever the other images of a batch show."""
    extra = {} if class_token else dict(with_cls_token=False, out_type='avg_featmap')
    network = dict(VIT, num_registers=registers, **extra)
    mask, shown = masks(4, 4, (9, 14, 3)), images()
    model = boot(backbone=network, masker=Given(mask)).eval()
    step = Step(model, [shown])
    assert step.visible.padded
    whole = [one.decoder(step.visible) for one in model.objectives.values()]
    for index in range(3):
        model.masker = Given(mask[index : index + 1])
        alone = Step(model, [shown[index : index + 1]]).visible
        assert not alone.padded
        for one, found in zip(model.objectives.values(), whole, strict=True):
            torch.testing.assert_close(found[index : index + 1], one.decoder(alone), rtol=1e-4, atol=1e-5)


def test_an_encoder_that_does_not_tell_of_its_padding_is_believed_to_have_some():
    model = boot(masker=Given(masks(4, 4, (9, 9, 9)))).eval()
    seen = Step(model, [images()]).visible
    decoder = model.objectives['predict'].decoder
    torch.testing.assert_close(decoder(seen._replace(padded=True)), decoder(seen))


def test_nobody_keeps_layers_for_a_decoder_that_reads_the_last():
    def kept(decoder: dict) -> int:
        return len(Step(build('MAE', decoder=decoder), [images()]).visible.layers)

    assert [kept({**CROSS, 'attends_to': block}) for block in (-1, 3, 2, -3, 1)] == [1, 1, 2, 3, 3]
    assert kept(DECODER) == 0


def test_the_block_that_is_named_is_read():
    """A change of what the first block gives, beside the residual stream, reaches the pixel decoder alone."""
    model = boot().eval()
    seen = Step(model, [images()]).visible
    pixel, feature = (model.objectives[name].decoder for name in ('predict', 'feature'))
    changed = seen._replace(layers=(seen.layers[0] + torch.randn_like(seen.layers[0]), *seen.layers[1:]))
    assert not torch.equal(pixel(changed), pixel(seen)) and torch.equal(feature(changed), feature(seen))
    changed = seen._replace(class_tokens=(*seen.class_tokens[:-1], -seen.class_tokens[-1]))
    assert torch.equal(pixel(changed), pixel(seen)) and not torch.equal(feature(changed), feature(seen))


@pytest.mark.parametrize('name', SMALL_BACKBONES)
def test_the_decoder_goes_into_methods_with_mask_tokens(name):
    """Of a Swin it reads the blocks of the last stage; inner blocks, other losses and other objectives go with it."""
    lower = dict(type='MaskedPrediction', target=dict(type='Pixels'), decoder=CROSS, layer=-2, norm_predicted=True)
    contrast = dict(type='TargetViewContrast', decoder={**CROSS, 'attends_to': 1}, neck=mlp(), predictor=mlp())
    model = build(
        'SimMIM',
        backbone=SMALL_BACKBONES[name],
        decoder={**CROSS, 'attends_to': 1},
        objectives=dict(lower=lower, contrast=contrast),
    )
    losses = model.loss(views(name, local=0))
    assert set(losses) == {'loss_predict', 'loss_lower', 'loss_contrast'}
    total(losses).backward()
    assert [key for key, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


def test_thrown_patches_have_no_token_and_what_they_show_is_not_seen():
    mask = masks(4, 4, (9, 9, 9))
    thrown = ~mask & (masks(4, 4, (12, 12, 12)))
    model = boot(masker=Given(mask, thrown)).eval()
    other = torch.where(thrown.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, None], 5.0, images())
    found = [Step(model, [shown]).visible for shown in (images(), other)]
    for one in model.objectives.values():
        first, second = (one.decoder(seen)[mask.flatten(1)] for seen in found)
        torch.testing.assert_close(first, second)


def test_in_half_precision():
    """With padding, and near what float32 gives."""
    model = boot(masker=Given(masks(4, 4, (9, 14, 3))))
    exact = model.loss([images()])
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = model.loss([images()])
    total(losses).backward()
    for name, loss in losses.items():
        assert loss.dtype == torch.float32 and loss.item() == pytest.approx(exact[name].item(), rel=0.03)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize('hidden', [False, True])
def test_nothing_or_everything_hidden(hidden):
    model = boot(masker=Given(torch.full((3, 4, 4), hidden)))
    losses = model.loss([images()])
    total(losses).backward()
    assert all(torch.isfinite(loss) and bool(loss > 0) is hidden for loss in losses.values())
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.requires_grad)


def test_the_panel_shows_pixels():
    mask = masks(4, 4, (9, 14, 0))
    panel = boot(masker=Given(mask)).panel(images())
    seen = ~mask.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, None].expand(-1, 3, -1, -1)
    assert panel.reconstruction is not None and panel.reconstruction_with == 'true means'
    assert torch.equal(panel.reconstruction[seen], images()[seen])
    assert (panel.reconstruction != images())[~seen].float().mean() > 0.99


def test_pixels_by_channel_go_back_to_images():
    for order in ('row column channel', 'channel row column'):
        target = MODELS.build(dict(type='Pixels', patch_size=8, norm=True, norm_by='channel', order=order))
        shown = 3 * images(16, 24) + 1
        values = target(shown, (2, 3))
        parts = values.unflatten(-1, (-1, 3) if order.startswith('row') else (3, -1))
        axis = 2 if order.startswith('row') else 3
        assert parts.mean(axis).abs().max() < 1e-5
        torch.testing.assert_close(parts.var(axis, correction=0), torch.ones(2 + 1, 6, 3), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(target.to_images(values, shown, (2, 3)), shown, rtol=1e-4, atol=1e-4)


def test_a_teacher_of_ones_own_has_the_momentum_that_is_given():
    assert boot(teacher=True).teacher.schedule is not None
    own = boot(teacher=dict(momentum=0.9)).teacher
    assert own.schedule is None and (own.start_momentum, own.end_momentum) == (0.9, 1.0)


SCHEDULES: list[tuple[Any, str]] = [
    ([], 'at least one'),
    ([(0.1, 0.9)], 'increasing from 0'),
    ([(0, 0.9), (0, 0.95)], 'increasing from 0'),
    ([(0, 0.9), (0.5, 0.8)], 'does not fall'),
    ([(0, 0.9, 1)], r'schedule is \[\(0, 0\.9, 1\)\]'),
    ([(0, 1.5)], r'schedule\[0\]\[1\] is 1\.5'),
]


@pytest.mark.parametrize(('schedule', 'message'), SCHEDULES)
def test_schedules_that_are_none(schedule, message):
    with pytest.raises(UsageError, match=message):
        MomentumTeacher({}, schedule=schedule)


def test_a_schedule_stands_alone():
    with pytest.raises(UsageError, match=r'has a schedule, and momentum=0\.9 .* beside it: give either'):
        MomentumTeacher({}, momentum=0.9, schedule=[(0, 0.99)])


@pytest.mark.parametrize(
    ('parts', 'message'),
    [
        (dict(backbone=SWIN), 'MaskedSwinTransformer cannot encode the visible patches alone'),
        (dict(masker=None), 'predicts hidden patches, but has no masker'),
        (dict(teacher=False), r"the objective 'feature' needs a teacher, but teacher=False"),
        (dict(decoder=dict(attends_to=4)), r'attends_to is 4, and MaskedVisionTransformer has 3 blocks .* give 1 to 3'),
        (dict(decoder=dict(attends_to=0)), 'attends_to is 0: give 1 for the first block'),
        (dict(decoder=dict(embed_dims=8, num_heads=12)), 'num_heads is 12, more than the 8 channels'),
        (dict(decoder=dict(embed_dims=30)), 'embed_dims is 30: give a multiple of 4'),
        (dict(loss_weight_feature=-1), r'BootMAE\.loss_weight_feature is -1'),
        (dict(feature_warmup=2), r'BootMAE\.feature_warmup is 2'),
        (dict(loss='cross_entropy'), r"BootMAE\.loss is 'cross_entropy': give 'mse', 'l1' or 'smooth_l1'"),
    ],
)
def test_what_does_not_fit_is_refused_when_the_model_is_built(parts, message):
    with pytest.raises(UsageError, match=message):
        boot(**parts)


def test_options_of_a_prediction_that_do_not_fit():
    with pytest.raises(UsageError, match="weight_mask is True, which weighs hidden patches, but on is 'all'"):
        model_with(weight_mask=True, on='all')
    with pytest.raises(UsageError, match="norm_predicted is True, but loss is 'cross_entropy'"):
        model_with(norm_predicted=True, loss='cross_entropy')
    predicted = dict(type='LossPrediction', decoder=CROSS)
    with pytest.raises(UsageError, match=r'CrossAttentionDecoder, which reads inner blocks, .*: take ViTDecoder'):
        build('MAE', objectives=dict(rank=predicted))


def model_with(**options: Any) -> Pretrainer:
    predict = dict(type='MaskedPrediction', target=dict(type='Pixels'), decoder=DECODER, **options)
    return build('MAE', objectives=dict(one=predict))
