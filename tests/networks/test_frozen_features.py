"""The target of dBOT: whose features they are, on which grid, what it costs the model, what it refuses."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from mstkit.errors import UsageError
from mstkit.networks import FrozenFeatures, open_networks
from mstkit.registry import MODELS
from tests.models.builders import SMALL_BACKBONES, SWIN, VIT
from tests.models.mim_models import build

TIMM = 'timm:vit_tiny_patch16_224'
ANY_SIZE = 'mmpretrain:deit-tiny'
SHALLOW = dict(embed_dims=24, num_layers=1, num_heads=2, feedforward_channels=24)


@pytest.mark.parametrize('name', SMALL_BACKBONES)
@pytest.mark.parametrize(('top', 'norm'), [(1, 'layer'), (2, 'none'), (2, 'final')])
def test_a_random_network_is_the_students_architecture_and_always_the_same(name, top, norm):
    config: Any = SMALL_BACKBONES[name]
    targets: list[FrozenFeatures] = []
    side = 32 if name == 'vit' else 128
    for seed in range(2):
        torch.manual_seed(seed)
        backbone = MODELS.build(config)
        backbone.init_weights()
        target = FrozenFeatures(backbone.stride, top=top, norm=norm)
        state = torch.get_rng_state()
        target.prepare(backbone)
        assert torch.equal(state, torch.get_rng_state())
        targets.append(target)
    shown = torch.randn(2, 3, side, side)
    grid = backbone.grid_of(shown)
    first, second = (target(shown, grid) for target in targets)
    assert torch.equal(first, second) and torch.equal(targets[0].fingerprint, targets[1].fingerprint)
    assert first.shape == (2, grid[0] * grid[1], targets[0].dims) and first.dtype == torch.float32
    network: Any = targets[0].network.backbone
    assert any(not torch.equal(a, b) for a, b in zip(network.parameters(), backbone.parameters(), strict=True))
    layers = network.forward_layers(shown, top, norm=norm == 'final')
    layers = [F.layer_norm(layer, layer.shape[-1:]) if norm == 'layer' else layer for layer in layers]
    torch.testing.assert_close(first, torch.stack(layers).mean(dim=0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(('height', 'width'), [(32, 32), (24, 40)])
def test_images_are_resized_to_the_students_grid_and_normalized_anew(height, width):
    """Of 4x4 patches of 8 px, 64 px for a network with patches of 16: no feature is interpolated."""
    model = build(
        'SimMIM',
        target=dict(type='FrozenFeatures', source=ANY_SIZE, norm='final'),
        data_preprocessor=dict(mean=[127.5] * 3, std=[64.0] * 3),
        backbone=dict(VIT, img_size=(height, width)),
    )
    target = model.objectives['predict'].target
    shown = torch.randn(2, 3, height, width)
    (network,) = open_networks(ANY_SIZE)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (network.mean, network.std))
    wanted = (shown * 64 + 127.5 - mean) / std
    wanted = F.interpolate(wanted, (2 * height, 2 * width), mode='bilinear', antialias=True)
    found = target(shown, (height // 8, width // 8))
    torch.testing.assert_close(found, network(wanted).patch_tokens, rtol=1e-4, atol=1e-5)


def test_a_frozen_network_is_no_part_of_the_model():
    model = build('SimMIM', target=dict(type='FrozenFeatures', source=ANY_SIZE))
    assert [name for name in model.state_dict() if '.target.' in name] == ['objectives.predict.target.fingerprint']
    assert not any('target' in name for name, _ in model.named_parameters())
    network = model.objectives['predict'].target.network
    before = copy.deepcopy(network.state_dict())
    (loss,) = model.loss([torch.randn(2, 3, 32, 32)]).values()
    loss.backward()
    assert not network.training and all(one.grad is None for one in network.parameters())
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in before.items())


def test_a_network_of_one_image_size_takes_a_student_of_its_grid_alone():
    swin = dict(type='FrozenFeatures', source='timm:swin_tiny_patch4_window7_224')
    fitting = build('SimMIM', target=swin, backbone=dict(VIT, img_size=56, arch=SHALLOW))
    (loss,) = fitting.loss([torch.randn(1, 3, 56, 56)]).values()
    assert torch.isfinite(loss)
    other = build('SimMIM', target=swin)
    with pytest.raises(UsageError, match=r'the 4x4 patches of the student are images of 128x128 px .* 7x7 patches'):
        other.check_views(32)
    fitting.check_views(56)


def test_a_vit_of_timm_takes_a_student_of_any_grid():
    other = build('SimMIM', target=dict(type='FrozenFeatures', source=TIMM))
    other.check_views(32)
    (loss,) = other.loss([torch.randn(1, 3, 32, 32)]).values()
    assert torch.isfinite(loss)


@pytest.mark.parametrize(
    ('target', 'backbone', 'message'),
    [
        (dict(source='there-is-none.pth'), VIT, r'FrozenFeatures\.source: there is no file'),
        (dict(top=4), VIT, r'FrozenFeatures\.top is 4, and random has 3 blocks .* give 1 to 3'),
        (dict(top=3), SWIN, r'FrozenFeatures\.top is 3, and random has 2 blocks'),
        (dict(branch='pupil'), VIT, r'FrozenFeatures\.branch'),
        (dict(norm='batch'), VIT, r'FrozenFeatures\.norm'),
    ],
)
def test_what_is_refused_when_the_model_is_built(target, backbone, message):
    with pytest.raises(UsageError, match=message):
        MODELS.build(dict(type='SimMIM', backbone=backbone, target=dict(type='FrozenFeatures', **target)))


def test_weights_that_are_not_those_of_the_run_are_refused():
    model = build('DBOT')
    state = model.state_dict()
    model.load_state_dict(state)
    state['objectives.predict.target.fingerprint'] = state['objectives.predict.target.fingerprint'] ^ 1
    with pytest.raises(UsageError, match='not those whose features the run of this checkpoint predicted'):
        model.load_state_dict(state)
