"""The linear probe of depth: its measures beside mmseg's, loss and head by their formulas, and that it learns."""

from __future__ import annotations

import math

import pytest
import torch
from mmseg.evaluation.metrics.depth_metric import DepthMetric
from torch.nn import functional

from mstkit.evaluation.protocols.depth_probe import (
    BINS,
    DepthHead,
    DepthTokens,
    choose_rate,
    scale_invariant,
    scores,
    train_head,
)


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def maps(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.5 + 9 * torch.rand(*shape, generator=draws(seed))


def test_the_measures_are_mmsegs():
    depth, known = maps(3, 12, 10), maps(3, 12, 10, seed=1)
    known[torch.rand(3, 12, 10, generator=draws(2)) < 0.3] = 0
    theirs = DepthMetric(min_depth_eval=0.0)
    for one, other in zip(depth, known, strict=True):
        theirs.process({}, [dict(pred_depth_map=dict(data=one), gt_depth_map=dict(data=other))])
    wanted = theirs.compute_metrics(theirs.results)
    found = scores(depth, known)
    for name in ('rmse', 'abs_rel', 'd1', 'd2', 'd3'):
        scale = 100 if name[0] == 'd' else 1
        assert found[name] == pytest.approx(scale * float(wanted[name]), rel=1e-4), name


def test_images_without_depth_do_not_count():
    depth, known = maps(2, 4, 4), maps(2, 4, 4, seed=1)
    known[1] = 0
    assert scores(depth, known) == scores(depth[:1], known[:1])
    perfect = scores(known[:1], known[:1])
    assert perfect == dict(rmse=0.0, abs_rel=0.0, d1=100.0, d2=100.0, d3=100.0)


def test_the_loss_is_that_of_its_formula():
    depth, known = maps(2, 3, 4), maps(2, 3, 4, seed=1)
    known[0, 0, 0] = 0
    pairs = zip(depth.flatten().tolist(), known.flatten().tolist(), strict=True)
    apart = [math.log(one) - math.log(other) for one, other in pairs if other > 0]
    mean, square = sum(apart) / len(apart), sum(one * one for one in apart) / len(apart)
    assert float(scale_invariant(depth, known)) == pytest.approx(math.sqrt(square - 0.85 * mean * mean), rel=1e-4)
    # Another scale costs a share of what another shape costs.
    assert float(scale_invariant(3 * known, known)) == pytest.approx(math.sqrt(0.15) * math.log(3), rel=1e-3)


def test_unknown_depth_has_no_gradient():
    depth, known = maps(1, 2, 2).requires_grad_(), maps(1, 2, 2, seed=1)
    known[0, 0, 0] = 0
    scale_invariant(depth, known).backward()
    assert depth.grad is not None and depth.grad[0, 0, 0] == 0 and bool((depth.grad.flatten()[1:] != 0).all())
    scale_invariant(depth, torch.zeros(1, 2, 2)).backward()
    assert bool(depth.grad.isfinite().all())


def test_the_head_is_a_linear_layer_on_upsampled_tokens():
    tokens = torch.randn(2, 6, 3, 4, generator=draws())
    head = DepthHead(tokens, 8.0, seed=1)
    torch.nn.init.normal_(head.linear.weight, std=0.5)
    mean, std = tokens.mean(dim=(0, 2, 3)), tokens.movedim(1, -1).flatten(0, 2).std(dim=0)
    standard = (tokens - mean[:, None, None]) / std[:, None, None]
    larger = functional.interpolate(standard, scale_factor=4, mode='bilinear', align_corners=False)
    weights = head.linear(larger.movedim(1, -1)).relu() + 0.1
    depths = torch.linspace(0.008, 8.0, BINS)
    wanted = (weights * depths).sum(dim=-1) / weights.sum(dim=-1)
    assert head(tokens).shape == (2, 12, 16)
    assert torch.allclose(head(tokens), wanted, atol=1e-4)
    assert 0.008 <= float(head(tokens).min()) <= float(head(tokens).max()) <= 8.0


def data(count: int = 24, seed: int = 0) -> DepthTokens:
    """Depth is linear in one of eight channels."""
    tokens = torch.randn(count, 8, 4, 4, generator=draws(seed))
    depth = 3 + tokens[:, 2].clamp(-2, 2)
    return DepthTokens(tokens, functional.interpolate(depth[:, None], (16, 16), mode='bilinear')[:, 0])


def test_it_learns_what_is_linear():
    train, val = data(), data(seed=1)
    head = train_head(train, 0.02, 60, 8, 5.0)
    found = scores(head.predict(val.tokens, (16, 16), batch=5), val.depth)
    constant = scores(train.depth.mean().expand_as(val.depth), val.depth)
    assert found['rmse'] < 0.3 * constant['rmse'] and found['d1'] > 95
    again = train_head(train, 0.02, 60, 8, 5.0)
    assert torch.equal(head.linear.weight, again.linear.weight)
    one_by_one = head.predict(val.tokens, (16, 16), batch=1)
    assert torch.allclose(head.predict(val.tokens, (16, 16)), one_by_one, atol=1e-5)


def test_held_out_images_choose_the_rate():
    best, errors = choose_rate(data(), (1e-6, 0.02, 1e3), 30, 8, 5.0, 0, 0.25)
    assert best == 0.02 and set(errors) == {1e-6, 0.02, 1e3}
    assert errors[0.02] == min(errors.values())
