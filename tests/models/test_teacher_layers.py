"""The target of data2vec: which layers of the teacher it takes, how it normalizes them, what it costs others."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mstkit.errors import UsageError
from mstkit.models import Step, TeacherLayers
from mstkit.registry import MODELS
from mstkit.structures import TokenOutput
from tests.models.builders import SMALL_BACKBONES, VIT, views
from tests.models.mim_models import build


def output(*layers: torch.Tensor) -> TokenOutput:
    return TokenOutput(layers[-1], layers[-1].mean(dim=1), (2, 3), layers=layers)


@pytest.mark.parametrize('name', SMALL_BACKBONES)
def test_inner_layers_are_those_of_forward_layers(name):
    backbone = MODELS.build(SMALL_BACKBONES[name]).eval()
    backbone.init_weights()
    shown, count = views(name)[0], backbone.layer_count()
    found = backbone.forward_tokens(shown, layers=count, read='pooled')
    for mine, other in zip(found.layers, backbone.forward_layers(shown, count, norm=False), strict=True):
        torch.testing.assert_close(mine, other)
    plain = backbone.forward_tokens(shown)
    assert plain.layers == () and torch.equal(plain.pooled, found.pooled)


@pytest.mark.parametrize('norm', ['layer', 'instance', 'none'])
@pytest.mark.parametrize('norm_mean', [True, False])
def test_the_mean_of_normalized_layers(norm, norm_mean):
    torch.manual_seed(0)
    layers = [scale * torch.randn(2, 6, 48) + scale for scale in (100.0, 1.0, 30.0)]
    target = TeacherLayers(8, top=2, norm=norm, norm_mean=norm_mean)
    target.prepare(MODELS.build(VIT))
    found = target(torch.zeros(2, 3, 16, 24), (2, 3), output(*layers))
    expected = torch.zeros(2, 6, 48).double()
    axis = {'layer': 2, 'instance': 1}
    for layer in layers[1:]:  # what another objective asked for beyond that is left
        values = layer.double()
        if norm in axis:
            mean, deviation = values.mean(axis[norm], keepdim=True), values.var(axis[norm], False, keepdim=True) + 1e-5
            values = (values - mean) / deviation.sqrt()
        expected += values / 2
    if norm_mean:
        centered = expected - expected.mean(2, keepdim=True)
        expected = centered / (expected.var(2, False, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)


def test_more_layers_than_there_are_is_refused_when_the_model_is_built():
    for backbone, count in ((SMALL_BACKBONES['vit'], 3), (SMALL_BACKBONES['small swin'], 2)):
        config = dict(type='Data2Vec', backbone=backbone, target=dict(type='TeacherLayers', top=6))
        with pytest.raises(UsageError, match=rf'TeacherLayers\.top is 6, and {backbone["type"]} has {count} blocks'):
            MODELS.build(config)


def test_the_teacher_keeps_no_layers_that_nobody_asks_for():
    shown = views()[:1]
    assert len(Step(build('Data2Vec'), shown).teacher.layers) == 1
    assert Step(build('SimMIM', teacher=True), shown).teacher.layers == ()


def test_the_teacher_has_no_dropout_of_attention():
    model = build('Data2Vec', backbone=dict(VIT, layer_cfgs=dict(attn_drop_rate=0.5)))
    for part, rate in (('backbone', 0.5), ('teacher.backbone', 0.0)):
        layers: Any = model.get_submodule(f'{part}.layers')
        assert [layer.attn.attn_drop for layer in layers] == [rate] * 3
