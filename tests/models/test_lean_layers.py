"""The lean feed-forward layers give what mmcv's give and keep less for the backward pass."""

from __future__ import annotations

import copy

import pytest
import torch
from mmcv.cnn.bricks.transformer import FFN
from torch import nn
from torch.nn import functional as F

from benchmarks.contest.kept_tensors import kept
from mstkit.models import MaskedSwinTransformer, MaskedVisionTransformer
from mstkit.models.memory_lean_linear import LeanFFN, gelu_linear, lean_ffn, norm_linear
from tests.models.builders import gradient_of

GELU = dict(act_cfg=dict(type='GELU'))


def pair(**settings) -> tuple[nn.Module, nn.Module]:
    """mmcv's and ours with the same weights."""
    torch.manual_seed(0)
    theirs = FFN(24, 96, **GELU, **settings)
    return theirs, lean_ffn(copy.deepcopy(theirs))


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    'settings', [{}, dict(layer_scale_init_value=0.3), dict(add_identity=False)], ids=['plain', 'scaled', 'branch']
)
def test_results_and_gradients_are_mmcvs_bit_for_bit(settings, dtype):
    theirs, ours = pair(**settings)
    assert type(ours) is LeanFFN and list(ours.state_dict()) == list(theirs.state_dict())
    x, direction = torch.randn(3, 7, 24), torch.randn(3, 7, 24)
    results = []
    for module in (theirs, ours):
        given = x.clone().requires_grad_()
        with torch.autocast('cpu', dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            for identity in (None, x):
                found = module(given, identity=identity)
                (found * direction).sum().backward()
        results.append([found.detach(), given.grad, *(parameter.grad for parameter in module.parameters())])
    for a, b in zip(*results, strict=True):
        assert a.dtype == b.dtype and torch.equal(a, b)


def test_the_gradient_is_the_derivative():
    linear = nn.Linear(5, 4).double()
    x = torch.randn(2, 3, 5, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, *_: gelu_linear(x, linear), (x, *linear.parameters()))


@pytest.mark.parametrize('bias', [True, False], ids=['bias', 'no bias'])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
def test_norm_and_linear_are_torchs_bit_for_bit(dtype, bias):
    torch.manual_seed(0)
    norm, linear = nn.LayerNorm(24, eps=1e-6), nn.Linear(24, 40, bias=bias)
    nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    x, direction = torch.randn(3, 7, 24), torch.randn(3, 7, 40)
    results = []
    for run in (lambda x: linear(norm(x)), lambda x: norm_linear(x, norm, linear)):
        given = x.clone().requires_grad_()
        for module in (norm, linear):
            module.zero_grad()
        with torch.autocast('cpu', dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            found = run(given)
        (found * direction).sum().backward()
        parameters = (*norm.parameters(), *linear.parameters())
        results.append([found.detach(), *(gradient_of(tensor).clone() for tensor in (given, *parameters))])
    for a, b in zip(*results, strict=True):
        assert a.dtype == b.dtype and torch.equal(a, b)


def test_what_is_normalized_is_kept_once():
    norm, linear = nn.LayerNorm(24), nn.Linear(24, 40)
    x = torch.randn(64, 24, requires_grad=True)
    both = nn.ModuleList((norm, linear))
    plain, lean = kept(both, lambda: linear(norm(x))), kept(both, lambda: norm_linear(x, norm, linear))
    assert plain - lean == 64 * 24 * 4


@pytest.mark.parametrize('norm', [None, nn.BatchNorm1d(7), nn.LayerNorm(24, elementwise_affine=False)], ids=str)
def test_other_norms_run_as_they_are(norm):
    linear, x = nn.Linear(24, 40), torch.randn(3, 7, 24)
    expected = linear(x if norm is None else norm(x))
    assert torch.equal(norm_linear(x, norm, linear), expected)
    half = nn.LayerNorm(24).bfloat16()
    assert torch.equal(norm_linear(x.bfloat16(), half, linear.bfloat16()), linear(half(x.bfloat16())))


def test_what_lies_between_the_layers_is_kept_once():
    theirs, ours = pair()
    x = torch.randn(64, 24)
    between = 64 * 96 * 4
    assert kept(theirs, lambda: theirs(x)) - kept(ours, lambda: ours(x)) == between


def test_without_gradients_nothing_is_kept():
    linear = nn.Linear(6, 4)
    x = torch.randn(3, 6)
    with torch.no_grad():
        found = gelu_linear(x, linear)
    assert found.grad_fn is None
    torch.testing.assert_close(found, linear(F.gelu(x)))


def test_frozen_weights_and_inputs_get_no_gradient():
    linear = nn.Linear(6, 4)
    linear.weight.requires_grad_(False)
    x = torch.randn(3, 6)
    gelu_linear(x, linear).sum().backward()
    assert linear.weight.grad is None
    assert torch.equal(linear.bias.grad, torch.full((4,), 3.0))


@pytest.mark.parametrize(
    'settings',
    [dict(act_cfg=dict(type='ReLU')), dict(GELU, ffn_drop=0.1), dict(GELU, num_fcs=3)],
    ids=['another activation', 'dropout between', 'three layers'],
)
def test_others_are_left_alone(settings):
    module = FFN(24, 96, **settings)
    assert lean_ffn(module) is module
    other = nn.Identity()
    assert lean_ffn(other) is other


@pytest.mark.parametrize('network', [MaskedVisionTransformer, MaskedSwinTransformer])
def test_backbones_use_it(network):
    built = network(arch='tiny' if network is MaskedSwinTransformer else 'deit-small')
    assert sum(isinstance(module, LeanFFN) for module in built.modules()) == 12


def test_shapes_without_numbers_pass():
    norm, linear = nn.LayerNorm(24, device='meta'), nn.Linear(24, 40, device='meta')
    assert norm_linear(torch.empty(3, 24, device='meta'), norm, linear).shape == (3, 40)
