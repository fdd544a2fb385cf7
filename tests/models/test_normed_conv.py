"""Normalization, ReLU, upsampling and convolution as one function: the numbers of the four, one map kept."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.contest.kept_tensors import kept
from mstkit.models import CNNImageDecoder
from mstkit.models.decoders import normed_conv as module
from mstkit.models.decoders.normed_conv import normed_conv
from mstkit.models.view_batch_norm import normalize_views
from tests.models.builders import gradient_of

LEAN = '_NormedConvBackward'


@pytest.fixture(autouse=True, params=[1, 3], ids=['products', 'library'])
def _narrow(request, monkeypatch):
    """Three channels are enough here; two outputs are enough for products, or are left to the library."""
    monkeypatch.setattr(module, 'WIDE', request.param)


def parts(kernel: int, bias: bool = True, dtype: torch.dtype = torch.float64) -> tuple[nn.BatchNorm2d, nn.Conv2d]:
    torch.manual_seed(0)
    norm, conv = nn.BatchNorm2d(3), nn.Conv2d(3, 2, kernel, padding=kernel // 2, bias=bias)
    nn.init.uniform_(norm.weight, 0.5, 2), nn.init.normal_(norm.bias)
    return norm.to(dtype), conv.to(dtype)


def maps(count: int = 4, size: tuple[int, int] = (3, 5), dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    found = torch.randn(count, 3, *size, generator=generator, dtype=torch.float64) * 3 + 1
    return found.to(dtype, memory_format=torch.channels_last).requires_grad_()


def plain(x: Tensor, norm: nn.Module, conv: nn.Conv2d, views: int, double: bool) -> Tensor:
    x = F.relu(normalize_views(norm, x, views, updating=views))
    return conv(F.interpolate(x, scale_factor=2, mode='bilinear') if double else x)


@pytest.mark.parametrize('double', [False, True], ids=['single', 'double'])
@pytest.mark.parametrize('views', [1, 2])
@pytest.mark.parametrize('kernel', [1, 3, 5])
def test_numbers_are_those_of_the_four(kernel, views, double):
    found = []
    for function in (plain, normed_conv):
        norm, conv = parts(kernel)
        x = maps()
        out = function(x, norm, conv, views, double)
        direction = torch.randn(out.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        out.mul(direction).sum().backward()
        inputs = (x, *norm.parameters(), *conv.parameters())
        found.append([out.detach(), *map(gradient_of, inputs), *norm.buffers()])
        assert (type(out.grad_fn).__name__ == LEAN) == (function is normed_conv)
    for expected, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected)
    assert found[0][-1] == views, 'batches were counted'


@pytest.mark.parametrize('double', [False, True], ids=['single', 'double'])
@pytest.mark.parametrize('kernel', [1, 3])
def test_in_half_precision_no_number_is_worse_than_those_of_the_four(kernel, double):
    """Against float64, from inputs that bfloat16 holds exactly."""
    found = []
    for function, dtype in ((plain, torch.float64), (plain, torch.float32), (normed_conv, torch.float32)):
        half = dtype is torch.float32
        norm, conv = parts(kernel)
        conv.weight.data.copy_(conv.weight.bfloat16())
        norm, conv = norm.to(dtype), conv.to(dtype)
        x = maps(16, (6, 7)).detach().bfloat16()
        x = (x if half else x.double()).contiguous(memory_format=torch.channels_last).requires_grad_()
        with torch.autocast('cpu', torch.bfloat16, enabled=half):
            out = function(x, norm, conv, 2, double)
        assert (type(out.grad_fn).__name__ == LEAN) == (function is normed_conv)
        direction = torch.randn(out.shape, generator=torch.Generator().manual_seed(2)).to(out.dtype)
        out.backward(direction.bfloat16().to(out.dtype))
        inputs = (x, *norm.parameters(), *conv.parameters())
        assert all(gradient_of(one).dtype is one.dtype for one in inputs)
        found.append([out.detach(), *map(gradient_of, inputs), *norm.buffers()])
    for exact, theirs, ours in zip(*found, strict=True):
        scale = exact.double().std() if exact.numel() > 1 else exact.double().abs()
        error, allowed = ((one.double() - exact.double()).square().mean().sqrt() for one in (ours, theirs))
        assert error <= 1.2 * allowed + 1e-3 * scale
        assert error <= 0.02 * scale


@pytest.mark.parametrize('double', [False, True], ids=['single', 'double'])
def test_the_gradient_is_the_derivative(double):
    norm, conv = parts(3, bias=False)

    def run(x: Tensor, scale: Tensor, shift: Tensor, weight: Tensor) -> Tensor:
        whole = dict(zip(('norm.weight', 'norm.bias', 'conv.weight'), (scale, shift, weight), strict=True))
        return torch.func.functional_call(Both(copy.deepcopy(norm), conv), whole, (x, double))

    inputs = [one.detach().requires_grad_() for one in (maps(2), norm.weight, norm.bias, conv.weight)]
    assert torch.autograd.gradcheck(run, inputs)


@pytest.mark.parametrize('known', [True, False], ids=['known', 'unknown'])
@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16])
def test_a_map_between_two_makes_room_for_its_gradient_unless_the_graph_is_kept(dtype, known, monkeypatch):
    if not known:  # an older torch does not say whether it is
        monkeypatch.delattr(torch._C._autograd, '_get_current_graph_task_keep_graph')
    precise = dtype is torch.float64
    pairs = [(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 3, padding=1)), (nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1))]
    layers = nn.ModuleList([one for pair in pairs for one in pair]).to(torch.float64 if precise else torch.float32)
    found = {}
    for case in ('plain', 'kept', 'once'):
        function = plain if case == 'plain' else normed_conv
        x = maps(dtype=dtype)
        with torch.autocast('cpu', torch.bfloat16, enabled=not precise):
            between = function(x, *pairs[0], 2, True)
            loss = function(between, *pairs[1], 2, False).square().sum()
        inputs = [x, *layers.parameters()]
        before = between.detach().clone()
        if case == 'kept':
            twice = [torch.autograd.grad(loss, inputs, retain_graph=True) for _ in range(2)]
            assert all(torch.equal(*pair) for pair in zip(*twice, strict=True))
            assert torch.equal(before, between)
        last = torch.autograd.grad(loss, inputs)
        found[case] = twice[0] if case == 'kept' else last
        assert torch.equal(before, between) == (case == 'plain' or not known)
        assert torch.equal(x, maps(dtype=dtype))
    for ours, kept_, expected in zip(found['once'], found['kept'], found['plain'], strict=True):
        assert torch.equal(ours, kept_)
        if precise:
            torch.testing.assert_close(ours, expected)


class Both(nn.Module):
    def __init__(self, norm: nn.Module, conv: nn.Conv2d) -> None:
        super().__init__()
        self.norm, self.conv = norm, conv

    def forward(self, x: Tensor, double: bool) -> Tensor:
        return normed_conv(x, self.norm, self.conv, 1, double)


@pytest.mark.parametrize('memory_format', [torch.channels_last, torch.contiguous_format])
def test_gradients_of_what_is_asked_for(memory_format):
    norm, conv = parts(3)
    whole = {}
    for frozen in (False, True):
        conv.requires_grad_(not frozen)
        x = maps().detach().contiguous(memory_format=memory_format).requires_grad_()
        norm.zero_grad()
        conv.zero_grad()
        normed_conv(x, norm, conv, 2, True).square().sum().backward()
        whole[frozen] = gradient_of(x), gradient_of(norm.weight).clone()
        assert all((parameter.grad is None) == frozen for parameter in conv.parameters())
    torch.testing.assert_close(whole[True], whole[False])


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_one_map_is_kept(dtype):
    """The plain way keeps x, what the ReLU gives, and that in twice the size."""
    norm, conv = parts(3, dtype=torch.float32)
    x = maps(size=(32, 32), dtype=dtype)
    map_bytes = x.numel() * x.element_size()

    def ours() -> Tensor:
        with torch.autocast('cpu', torch.bfloat16, enabled=dtype is torch.bfloat16):
            return normed_conv(x, norm, conv, 2, True)

    def theirs() -> Tensor:
        with torch.autocast('cpu', torch.bfloat16, enabled=dtype is torch.bfloat16):
            return plain(x, norm, conv, 2, True)

    both = nn.ModuleList([norm, conv])
    assert map_bytes <= kept(both, ours) < 1.1 * map_bytes
    assert kept(both, theirs) > 5.9 * map_bytes


@pytest.mark.parametrize('case', ['evaluation', 'half', 'no gradient', 'other norm', 'cumulative', 'narrow'])
def test_what_is_left_to_the_four(case, monkeypatch):
    if case == 'narrow':
        monkeypatch.setattr(module, 'WIDE', 4)
    norm: Any
    norm, conv = parts(3, dtype=torch.float32)
    if case == 'other norm':
        norm = nn.GroupNorm(1, 3)
    if case == 'cumulative':
        norm.momentum = None
    norm.train(case != 'evaluation')
    x = maps(dtype=torch.float32)
    found = []
    for function in (plain, normed_conv):
        with (
            torch.autocast('cpu', dtype=torch.bfloat16, enabled=case == 'half'),
            torch.set_grad_enabled(case != 'no gradient'),
        ):
            out = function(x, copy.deepcopy(norm), conv, 2, True)
        found.append(out)
        assert type(out.grad_fn).__name__ != LEAN
    assert torch.equal(*found)


@pytest.mark.parametrize('batch_norm', [True, 'all', False])
def test_the_decoder_is_that_of_convolutions_in_turn(batch_norm, monkeypatch):
    torch.manual_seed(3)
    decoder = CNNImageDecoder(in_channels=5, stride=8, channels=4, batch_norm=batch_norm).double()
    x = torch.randn(4, 5, 3, 3, dtype=torch.float64)
    results = []
    for lean in (True, False):
        one = copy.deepcopy(decoder)
        if not lean:
            monkeypatch.setattr(module, '_is_lean', lambda *_: False)
        given = x.clone().requires_grad_()
        out = one(given, 2)
        out.square().sum().backward()
        results.append([out.detach(), gradient_of(given), *map(gradient_of, one.parameters()), *one.buffers()])
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected)
