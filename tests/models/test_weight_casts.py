"""Weights cast by the block are autocast's weights: the same losses and gradients, in few operations."""

from __future__ import annotations

import contextlib
import weakref
from collections import Counter
from typing import Any
from unittest import mock

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from mstkit.models import Pretrainer
from mstkit.models.encoder_layer import EncoderLayer
from mstkit.models.step import Step
from mstkit.models.weight_casts import CastBlock, WeightCasts
from mstkit.structures import Progress
from tests.models.builders import SIZES, gradient_of, mst, total, views
from tests.models.moby import moby, toy_images
from tests.models.test_methods import METHODS, build

BF16 = 2**-8  # half the distance of neighbors


def half(enabled: bool = True) -> torch.autocast:
    return torch.autocast('cpu', dtype=torch.bfloat16, enabled=enabled)


def step(model: Pretrainer, inputs: list[torch.Tensor], alone: bool = False) -> dict[str, torch.Tensor]:
    """The losses of a step with its gradients; ``alone``: with every weight cast by itself, as autocast does."""
    model.zero_grad()
    model.set_progress(Progress(60, 100, 10, rank_seed=1, iteration=60))
    torch.manual_seed(0)
    casts: Any = contextlib.nullcontext
    with mock.patch.object(WeightCasts, 'in_half', lambda _: casts()) if alone else contextlib.nullcontext(), half():
        losses = model.loss(inputs)
    total(losses).backward()
    return {name: loss.detach() for name, loss in losses.items()}


SWINS = ('DINO', 'IBOT', 'MSTAlgorithm', 'SimMIM')


@pytest.mark.parametrize(
    ('method', 'network'), [(one, 'vit') for one in METHODS] + [(one, 'small swin') for one in SWINS]
)
def test_losses_are_autocasts_to_the_bit(method, network):
    model = build('RandomMasker', method, network)
    before = dict(model.named_parameters())
    local = any(objective.reads_local for objective in model.objectives.values())
    inputs = views(network) if local else views(network)[: model.global_views + (model.target_needs is not None)]
    found = {}
    for alone in (True, False):
        state = {name: value.clone() for name, value in model.state_dict().items()}
        losses = step(model, inputs, alone)
        found[alone] = losses, {n: gradient_of(p).clone() for n, p in before.items() if p.grad is not None}
        model.load_state_dict(state)  # running statistics
    assert found[True][0] == found[False][0] and found[True][1].keys() == found[False][1].keys()
    again = local or method == 'ADIOS'  # gradients of several uses are added in another precision
    for name, expected in found[True][1].items():
        error = (expected - found[False][1][name]).abs().max()
        assert error <= (4 * BF16 * expected.abs().max() if again else 0), name
    assert any(part.any() for part in found[True][1].values())
    after = dict(model.named_parameters())
    assert all(after[name] is parameter for name, parameter in before.items()) and len(after) == len(before)


def test_moby_too():
    model = moby()
    inputs = toy_images()
    found = []
    for alone in (True, False):
        state = {name: value.clone() for name, value in model.state_dict().items()}
        losses = step(model, inputs, alone)
        found.append((losses, [gradient_of(p).clone() for p in model.parameters() if p.grad is not None]))
        model.load_state_dict(state)
    assert found[0][0] == found[1][0]
    for expected, gradient in zip(found[0][1], found[1][1], strict=True):
        assert torch.equal(expected, gradient)


class Operations(TorchDispatchMode):
    """Counts the casts of some tensors, alone and in lists."""

    def __init__(self, tensors: list[torch.Tensor]) -> None:
        super().__init__()
        self.places = {one.data_ptr() for one in tensors}
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function._schema.name.removeprefix('aten::')
        if name == '_foreach_copy_' or (name == '_to_copy' and args[0].data_ptr() in self.places):
            self.found[name] += 1
        return function(*args, **(kwargs or {}))


def test_a_block_is_one_list_and_the_teacher_is_one():
    model: Any = mst()
    blocks: list[Any] = [block for block in model.modules() if isinstance(block, CastBlock)]
    layers = [one for block in blocks for one in block.modules()]
    linear = [one for one in layers if isinstance(one, nn.Linear) and 'weight' in dict(one.named_parameters())]
    weights = [weight for one in linear for weight in one.parameters()]
    assert len(weights) == 2 * (3 * 8 + 6), 'of student and teacher: three layers with eight, a neck with six'
    with Operations(weights) as seen:
        step(model, views())
    assert seen.found == {'_foreach_copy_': 1 + 4 + 4}, 'the teacher; three layers and the neck, forward and back'
    with Operations(weights) as seen:
        step(model, views(), alone=True)
    assert seen.found['_to_copy'] > len(weights) and not seen.found['_foreach_copy_']


@pytest.mark.parametrize('network', ['vit', 'small swin'])
def test_layers_that_are_computed_twice(network):
    """``with_cp`` computes them again in the backward pass, when the parameters are back."""
    found = []
    for again in (False, True):
        torch.manual_seed(3)
        model: Any = build('RandomMasker', 'DINO', network)
        switches = [module for module in model.backbone.modules() if hasattr(module, 'with_cp')]
        assert switches
        for module in switches:
            module.with_cp = again
        found.append((step(model, views(network)), [gradient_of(p) for p in model.parameters() if p.grad is not None]))
    assert found[0][0] == found[1][0] and len(found[0][1]) == len(found[1][1])
    for expected, gradient in zip(found[0][1], found[1][1], strict=True):
        assert (expected - gradient).abs().max() <= 4 * BF16 * expected.abs().max()


def test_parameters_are_back_after_an_error():
    model: Any = mst()
    before = dict(model.named_parameters())
    with half(), pytest.raises(ZeroDivisionError), model.weight_casts.in_half():
        inside = dict(model.named_parameters())
        assert inside['backbone.layers.0.attn.qkv.weight'].dtype == torch.bfloat16
        assert inside['backbone.layers.0.ln1.weight'] is before['backbone.layers.0.ln1.weight']
        1 / 0  # noqa: B018
    assert all(one is before[name] for name, one in model.named_parameters())


def test_nothing_is_cast_without_autocast_or_twice():
    model: Any = mst()
    before = dict(model.named_parameters())
    with half(enabled=False), model.weight_casts.in_half():
        assert all(one is before[name] for name, one in model.named_parameters())
    layer = model.backbone.layers[0].to(torch.bfloat16)
    with half(), model.weight_casts.in_half():
        assert layer.attn.qkv.weight is before['backbone.layers.0.attn.qkv.weight']
        assert model.backbone.layers[1].attn.qkv.weight.dtype == torch.bfloat16


def test_a_weight_that_nothing_uses_gets_no_gradient():
    layer = EncoderLayer.__new__(EncoderLayer)
    nn.Module.__init__(layer)
    layer.used, layer.spare = nn.Linear(3, 3), nn.Linear(3, 3)
    with half(), WeightCasts(nn.Sequential(layer)).in_half():
        out = layer.used(torch.ones(2, 3)).float().sum()
    out.backward()
    assert gradient_of(layer.used.weight).dtype == torch.float32 and gradient_of(layer.used.weight).eq(2).all()
    assert layer.spare.weight.grad is None and layer.spare.bias.grad is None


def test_views_of_two_sizes_share_a_cast():
    assert len(set(SIZES['vit'])) == 2
    model: Any = mst()
    with half(), model.weight_casts.in_half():
        once = model.backbone.layers[0].attn.qkv.weight
        model.backbone.forward_tokens(views()[0])
        assert model.backbone.layers[0].attn.qkv.weight is once


@pytest.mark.parametrize('method', ['MSTAlgorithm', 'CMAE'])
def test_casts_of_a_teacher_are_freed_after_its_last_pass(method):
    model: Any = build('RandomMasker', method, 'vit')
    before = dict(model.named_parameters())
    taught = model.teacher.backbone.layers[0].attn.qkv
    with half(), model.weight_casts.in_half():
        assert taught.weight.dtype == torch.bfloat16
        made = weakref.ref(taught.weight)
        this = Step(model, views('vit'))
        assert (this.target_view is not None) == (method == 'CMAE')
        for part in ('teacher', 'target') if method == 'CMAE' else ('teacher',):
            assert made() is taught.weight
            getattr(this, part)
        assert made() is None and taught.weight.dtype == torch.float32
        assert model.backbone.layers[0].attn.qkv.weight.dtype == torch.bfloat16
    assert all(one is before[name] for name, one in model.named_parameters())


def test_a_block_in_evaluation_mode_is_left_to_autocast():
    """A tokenizer's network runs in float32 inside of a step."""
    model: Any = mst()
    model.backbone.layers[1].eval()
    with half(), model.weight_casts.in_half():
        assert model.backbone.layers[1].attn.qkv.weight.dtype == torch.float32
        assert model.backbone.layers[2].attn.qkv.weight.dtype == torch.bfloat16
