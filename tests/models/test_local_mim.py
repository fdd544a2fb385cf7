"""LocalMIM, and what it is made of: predictions from inner blocks and on finer and coarser grids."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mstkit.errors import UsageError
from mstkit.models import Step
from mstkit.registry import MODELS
from mstkit.structures import TokenOutput
from tests.models.builders import SMALL_BACKBONES, VIT, views
from tests.models.mim_models import Given, build, images, masks
from tests.models.parity import check_gradients, in_float64
from tests.models.plain_mim import local_mim_loss

SMALL = dict(embed_dims=24, num_layers=1, num_heads=2)
BLOCKS = {'local1': (1, 4.0), 'local2': (2, 1.0), 'local3': (2, 2.0), 'local4': (3, 0.5)}
CHOSEN: dict[str, Any] = dict(layers=(1, -2, 2, -1), scales=(4.0, 1.0, 2.0, 0.5), decoder=SMALL)


@pytest.mark.parametrize(
    ('norm', 'counts'),
    [(None, (10, 10)), (None, (9, 14)), (True, (12, 0))],
    ids=['HOG', 'HOG, unequal counts', 'pixels, a whole image'],
)
def test_a_step_is_that_of_its_formulas(norm, counts):
    """The loss and every gradient, in float64 image by image; coarse cells weighted by what is hidden of them."""
    mask, shown = masks(4, 4, counts), images(batch=2)
    target = {} if norm is None else dict(target=dict(type='Pixels', norm=norm))
    model = build('LocalMIM', masker=Given(mask), **CHOSEN, **target)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if '.norm.' in name or '.predict.layers.' in name:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    losses = model.loss([shown])
    assert list(losses) == [f'loss_{name}' for name in BLOCKS]
    loss = torch.stack(list(losses.values())).sum()
    loss.backward()
    weights = in_float64(model)
    expected = local_mim_loss(shown, mask, weights, 8, (3, 2), BLOCKS, norm)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    check_gradients(model, weights)


def test_its_blocks_are_those_of_its_code():
    """Of 12 blocks the second, fourth, tenth and twelfth; cells of 4, 8, 16 and 32 px with 27 values each."""
    arch = dict(embed_dims=24, num_layers=12, num_heads=2, feedforward_channels=48)
    model = build('LocalMIM', backbone=dict(VIT, arch=arch, patch_size=16), decoder=SMALL)
    own = list(model.objectives.values())
    assert [12 + 1 - max(1, one.student_layers) for one in own] == [2, 4, 10, 12]
    assert [one.target.patch_size for one in own] == [4, 8, 16, 32]
    assert [one.target.dims for one in own] == [27] * 4
    assert [one.norm is None for one in own] == [False, False, False, True]


@pytest.mark.parametrize('sees', ['visible', 'mask_token'])
@pytest.mark.parametrize('registers', [0, 2])
def test_inner_layers_are_the_outputs_of_the_blocks(sees, registers):
    """Those of a network that ends there; padding is zero; and nobody who does not ask gets any."""
    mask, shown = masks(4, 4, (9, 14, 0)), images()
    backbone: Any = MODELS.build(dict(VIT, num_registers=registers)).eval()
    backbone.init_weights()

    def forward(layers: int) -> Any:
        given = dict(layers=layers) if layers else {}
        call = backbone.forward_visible if sees == 'visible' else backbone.forward_tokens
        return call(shown, mask, **given)

    found, plain = forward(3), forward(0)
    assert plain.layers == plain.class_tokens == () and len(found.layers) == len(found.class_tokens) == 3
    torch.testing.assert_close(found.patch_tokens, plain.patch_tokens)
    blocks = list(backbone.layers)
    for count, layer, token in zip((1, 2, 3), found.layers, found.class_tokens, strict=True):
        backbone.layers, backbone.final_norm = torch.nn.ModuleList(blocks[:count]), False
        shorter = forward(0)
        torch.testing.assert_close(layer, shorter.patch_tokens)
        torch.testing.assert_close(token, shorter.pooled)
        backbone.layers, backbone.final_norm = torch.nn.ModuleList(blocks), True
    if sees == 'visible':
        assert not found.layers[0][found.places == -1].any()


def test_the_student_keeps_no_layers_that_nobody_asks_for():
    shown = views()[:1]
    assert Step(build('MAE'), shown).visible.layers == () and Step(build('SimMIM'), shown).student.layers == ()
    assert len(Step(build('LocalMIM', **CHOSEN), shown).visible.layers) == 3
    from_one = dict(layers=(-2,), scales=(1,), decoder=SMALL)
    assert len(Step(build('LocalMIM', **from_one), shown).visible.layers) == 2


@pytest.mark.parametrize('name', SMALL_BACKBONES)
@pytest.mark.parametrize('decoder', ['ViTDecoder', 'LinearDecoder'])
def test_any_method_predicts_from_inner_blocks_too(name, decoder):
    """With [MASK] tokens as well, of a Swin from the blocks of its last stage, in addition to its own loss."""
    small = SMALL if decoder == 'ViTDecoder' else {}
    lower = dict(type='MaskedPrediction', target=dict(type='Pixels'), decoder=dict(type=decoder, **small), layer=-2)
    model = build('SimMIM', backbone=SMALL_BACKBONES[name], objectives=dict(lower=lower))
    step = Step(model, views(name)[:1])
    seen = model.objectives['lower']._seen(step)
    torch.testing.assert_close(seen.patch_tokens, model.objectives['lower'].norm(step.student.layers[-2]))
    losses = model.loss(views(name)[:1])
    assert set(losses) == {'loss_predict', 'loss_lower'}
    torch.stack(list(losses.values())).sum().backward()
    assert all(one.grad is not None for one in model.parameters() if one.requires_grad)


def test_a_panel_shows_hidden_cells_of_the_first_block_predicted():
    mask = masks(4, 4, (9, 14, 0))
    model = build('LocalMIM', masker=Given(mask), target=dict(type='Pixels'), **CHOSEN)
    panel = model.panel(images())
    seen = ~mask.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, None].expand(-1, 3, -1, -1)
    assert panel.reconstruction is not None
    assert torch.equal(panel.reconstruction[seen], images()[seen])
    assert (panel.reconstruction != images())[~seen].float().mean() > 0.99


def test_one_cell_per_patch_is_the_same_whether_named_or_not():
    shown = images()
    named, whole = (MODELS.build(dict(type='HOG', patch_size=8, cell_size=size)) for size in (8, None))
    assert torch.equal(named(shown, (4, 4)), whole(shown, (4, 4))) and whole.dims == 27


@pytest.mark.parametrize(
    ('parts', 'message'),
    [
        (dict(layers=(1, 2), scales=(1,)), r'layers=\(1, 2\) and scales=\(1,\): give at least one layer, and a scale'),
        (dict(layers=(), scales=()), 'give at least one layer'),
        (dict(layers=(4,), scales=(1,)), r'layer is 4, and MaskedVisionTransformer has 3 blocks .* give 1 to 3, or -1'),
        (dict(layers=(0,), scales=(1,)), 'layer is 0'),
        (dict(layers=(1,), scales=(16,)), r'scale is 16: give a number that divides the 8 px'),
        (dict(layers=(1,), scales=(0.3,)), r'scale is 0\.3'),
        (dict(layers=(1,), scales=(8,), decoder=dict(SMALL, embed_dims=12)), 'embed_dims is a multiple of 8'),
        (dict(layers=(1,), scales=(2,), target=dict(type='TeacherLayers')), 'scale is 2, but TeacherLayers'),
        (
            dict(layers=(1,), scales=(2,), target=dict(type='Pixels', patch_size=8)),
            r'8 px and scale is 2: leave it out',
        ),
    ],
)
def test_what_does_not_fit_is_refused_when_the_model_is_built(parts, message):
    with pytest.raises(UsageError, match=message):
        build('LocalMIM', **{**dict(decoder=SMALL), **parts})


def test_decoders_and_views_that_do_not_fit_a_scale_are_refused():
    scaled = dict(type='MaskedPrediction', target=dict(type='Pixels'), decoder=dict(type='LinearDecoder'), scale=2)
    with pytest.raises(UsageError, match='LinearDecoder predicts one cell per patch, but scale is 2: take ViTDecoder'):
        build('SimMIM', objectives=dict(other=scaled))
    with pytest.raises(UsageError, match=r'scale is a power of two, such as 2 or 0\.5, not 3'):
        MODELS.build(dict(type='ViTDecoder', in_channels=8, out_channels=3, scale=3, **SMALL))
    coarse = MODELS.build(dict(type='ViTDecoder', in_channels=8, out_channels=3, scale=0.25, **SMALL))
    tokens = torch.zeros(1, 24, 8)
    with pytest.raises(UsageError, match=r'scale is 0\.25, and 4x6 patches cannot be joined in squares of 4x4'):
        coarse(TokenOutput(tokens, tokens[:, 0], (4, 6), layers=()))
    with pytest.raises(UsageError, match='cells of 16 px, which do not divide global views of 40 px: use 32 or 48 px'):
        build('LocalMIM', **CHOSEN).check_views(40)
