"""Both ways through attention are the same function."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from mstkit.models.attention_kernel import attend
from mstkit.registry import MODELS
from mstkit.structures import Progress
from tests.models.builders import BACKBONES, SIZES, mst, views


def qkv(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, 17, 8, generator=generator).to(dtype).requires_grad_() for _ in range(3))
    return q, k, v


def test_float32_is_torchs_own_bit_for_bit():
    parts = qkv(torch.float32)
    assert torch.equal(attend(*parts), F.scaled_dot_product_attention(*parts))


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize('cast', [False, True], ids=['', 'under autocast'])
def test_half_precision_agrees_with_float32_in_value_and_gradient(dtype, cast):
    exact, half = qkv(torch.float32), qkv(dtype)
    wanted = F.scaled_dot_product_attention(*exact)
    with torch.autocast('cpu', dtype, enabled=cast):
        got = attend(*half)
    assert got.dtype == dtype
    torch.testing.assert_close(got.float(), wanted, atol=0.03, rtol=0.03)
    gradients = torch.autograd.grad(got.float().square().sum(), half)
    for mine, theirs in zip(gradients, torch.autograd.grad(wanted.square().sum(), exact), strict=True):
        torch.testing.assert_close(mine.float(), theirs, atol=0.1, rtol=0.1)


def test_dropout_is_applied_when_asked():
    parts = qkv(torch.bfloat16)
    torch.manual_seed(0)
    dropped = [attend(*parts, dropout_p=0.5) for _ in range(2)]
    assert not torch.equal(*dropped)


@pytest.mark.parametrize('name', BACKBONES)
def test_what_ranks_patches_is_float32_under_autocast(name):
    model = MODELS.build(BACKBONES[name])
    model.init_weights()
    images = torch.randn(2, 3, SIZES[name][0], SIZES[name][0])
    exact = model.forward_tokens(images, return_attention=True)
    with torch.autocast('cpu', torch.bfloat16):
        cast = model.forward_tokens(images, return_attention=True)
    assert cast.attention.dtype == torch.float32
    torch.testing.assert_close(cast.attention, exact.attention, atol=2e-3, rtol=0.05)
    torch.testing.assert_close(cast.pooled.float(), exact.pooled, atol=0.1, rtol=0.1)


def test_losses_are_float32_under_autocast():
    torch.manual_seed(0)
    model = mst(masker=None)
    inputs = views()
    model.set_progress(Progress(0, 10, 5))
    exact = model.loss(inputs)
    with torch.autocast('cpu', torch.bfloat16):
        cast = model.loss(inputs)
    for name, value in cast.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, exact[name], atol=0.05, rtol=0.05)
