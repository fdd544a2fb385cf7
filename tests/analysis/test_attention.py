"""Distance, entropy and divergence against closed forms, plain loops, SciPy, and over batches."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon, pdist
from scipy.stats import entropy as scipy_entropy

from mstkit.analysis import (
    AttentionMeasures,
    attention_distance,
    attention_entropy,
    head_divergence,
    patch_attention,
    per_head,
    reach,
    uniform_distance,
    uniform_entropy,
)

from .maps import ToyMaps, grid, random_attention, shift_regions, shifted_windows, vit_maps


def uniform_maps(tokens: int, positions: torch.Tensor, **more) -> ToyMaps:
    return ToyMaps(0, 0, torch.full((2, 3, tokens, tokens), 1 / tokens), positions, **more)


def test_uniform_attention_looks_as_far_as_two_patches_are_apart():
    positions = grid(14, 14)
    count = len(positions)
    pairs = pdist(positions.numpy())
    expected = 2 * pairs.sum() / count**2  # ordered pairs, each patch with itself included
    for maps in (uniform_maps(196, positions), uniform_maps(197, positions, extra=1)):
        assert attention_distance(maps).tolist() == pytest.approx([expected] * 3, rel=1e-5)
        assert attention_entropy(maps).tolist() == pytest.approx([math.log(196)] * 3, rel=1e-5)
        assert uniform_distance(patch_attention(maps)) == pytest.approx(expected, rel=1e-5)
        assert uniform_entropy(patch_attention(maps)) == pytest.approx(math.log(196))
    # The raw attention loses what the class token got.
    raw = attention_distance(uniform_maps(197, positions, extra=1), renormalize=False)
    assert raw.tolist() == pytest.approx([expected * 196 / 197] * 3, rel=1e-5)


def test_one_patch_looked_at():
    positions = grid(2, 3, stride=10)
    weights = torch.eye(6).expand(2, 1, 6, 6)
    right = weights.roll(1, dims=-1)  # each patch looks at the next one, row by row
    there_and_back = 4 * [10.0] + 2 * [math.hypot(10, 20)]
    assert attention_distance(ToyMaps(0, 0, weights, positions)).item() == 0
    assert attention_distance(ToyMaps(0, 0, right, positions)).item() == pytest.approx(sum(there_and_back) / 6)
    assert attention_entropy(ToyMaps(0, 0, right, positions)).item() == 0


def test_against_plain_loops_with_a_class_token():
    maps = vit_maps(batch=2, heads=3, side=3)
    distances, entropies, divergences = np.zeros(3), np.zeros(3), np.zeros((3, 3))
    middles = np.zeros((3, 3))
    positions = maps.positions.double().numpy()
    for image in range(2):
        for query in range(1, 10):
            rows = maps.weights[image, :, query, 1:].double().numpy()
            rows = rows / rows.sum(axis=1, keepdims=True)
            for head in range(3):
                apart = [math.dist(positions[query - 1], positions[key]) for key in range(9)]
                distances[head] += rows[head] @ apart / 18
                entropies[head] += scipy_entropy(rows[head]) / 18
                for other in range(3):
                    divergences[head, other] += scipy_entropy(rows[head], rows[other]) / 18
                    middles[head, other] += jensenshannon(rows[head], rows[other]) ** 2 / 18
    found = head_divergence(maps)
    np.testing.assert_allclose(attention_distance(maps), distances, rtol=1e-5)
    np.testing.assert_allclose(attention_entropy(maps), entropies, rtol=1e-5)
    np.testing.assert_allclose(found.kl, divergences, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.js, middles, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.symmetric, (divergences + divergences.T) / 2, rtol=1e-4, atol=1e-6)
    of_each = divergences.sum(axis=1) / 2
    np.testing.assert_allclose(per_head(found.kl), of_each, rtol=1e-4)
    pairs = [divergences[i, j] for i in range(3) for j in range(3) if i != j]
    assert per_head(found.kl).mean().item() == pytest.approx(np.mean(pairs), rel=1e-4)


def test_divergence_of_equal_and_of_disjoint_heads():
    one = random_attention(2, 1, 16)
    same = head_divergence(ToyMaps(0, 0, one.expand(2, 3, 16, 16), grid(4, 4)))
    assert same.kl.abs().max() < 1e-6 and same.js.abs().max() < 1e-6
    left = torch.zeros(1, 2, 4, 4)
    left[:, 0, :, 0], left[:, 1, :, 3] = 1, 1
    apart = head_divergence(ToyMaps(0, 0, left, grid(2, 2)))
    assert apart.js[0, 1].item() == pytest.approx(math.log(2), rel=1e-6)
    assert apart.kl[0, 1].item() == pytest.approx(-math.log(1e-12), rel=1e-6), 'finite: weights are clamped'
    sharp = head_divergence(ToyMaps(0, 0, random_attention(2, 5, 16, sharpness=30), grid(4, 4)))
    assert sharp.js.max() <= math.log(2) + 1e-6
    assert sharp.js.min() >= 0 and torch.equal(sharp.js, sharp.js.T)
    alone = head_divergence(ToyMaps(0, 0, one, grid(4, 4)))
    assert per_head(alone.kl).isnan().all(), 'a single head has no others'


def test_class_token_that_takes_everything_leaves_uniform_attention():
    weights = torch.zeros(1, 1, 5, 5)
    weights[..., 0] = 1
    maps = ToyMaps(0, 0, weights, grid(2, 2), extra=1)
    assert attention_entropy(maps).item() == pytest.approx(math.log(4))
    assert attention_distance(maps, renormalize=False).item() == 0


def test_padding_is_neither_query_nor_key():
    small = random_attention(3, 2, 4, seed=3)
    positions = torch.cat([grid(2, 2), torch.full((2, 2), 999.0)]).expand(3, 6, 2)
    weights = torch.full((3, 2, 6, 6), 1 / 6)
    weights[:, :, :4, :4] = small * 0.7  # the rest of it looks at the padding
    weights[:, :, :4, 4:] = 0.15
    real = torch.tensor([True] * 4 + [False] * 2).expand(3, 6)
    padded, plain = ToyMaps(0, 0, weights, positions, 0, real), ToyMaps(0, 0, small, grid(2, 2))
    torch.testing.assert_close(attention_distance(padded), attention_distance(plain))
    torch.testing.assert_close(attention_entropy(padded), attention_entropy(plain))
    torch.testing.assert_close(head_divergence(padded).kl, head_divergence(plain).kl)
    torch.testing.assert_close(head_divergence(padded).js, head_divergence(plain).js)
    patches = patch_attention(padded)
    assert uniform_entropy(patches) == pytest.approx(math.log(4))
    assert uniform_distance(patches) == pytest.approx(uniform_distance(patch_attention(plain)))
    # A window of padding alone changes nothing either.
    more = ToyMaps(
        0, 0, torch.cat([weights, weights[:1]]), torch.cat([positions, positions[:1]]), 0,
        torch.cat([real, torch.zeros(1, 6, dtype=torch.bool)]),
    )  # fmt: skip
    torch.testing.assert_close(attention_entropy(more), attention_entropy(plain))
    assert uniform_entropy(patch_attention(more)) == pytest.approx(math.log(4))


@pytest.mark.parametrize(('side', 'window', 'shift'), [(8, 4, 2), (14, 7, 3)])
def test_reach_is_what_a_shifted_window_of_swin_lets_through(side, window, shift):
    positions = shifted_windows(side, window, shift, stride=4).repeat(2, 1, 1)  # two images
    regions = shift_regions(side, window, shift).repeat(2, 1)
    allowed = regions[:, :, None] == regions[:, None, :]
    weights = allowed[:, None].float() / allowed.sum(-1)[:, None, :, None]
    maps = ToyMaps(1, 0, weights, positions)
    patches = patch_attention(maps)
    assert torch.equal(reach(patches), allowed)
    # Attention that is uniform where it is allowed is what the reference line says.
    assert uniform_entropy(patches) == pytest.approx(attention_entropy(maps).item(), rel=1e-5)
    assert uniform_distance(patches) == pytest.approx(attention_distance(maps).item(), rel=1e-5)
    # Un-shifted positions: a patch looks no farther than the window is wide, also across the seam.
    assert uniform_distance(patches) < (window - 1) * 4


def test_windows_without_a_shift_reach_everything_in_them():
    patches = patch_attention(ToyMaps(0, 0, random_attention(8, 2, 16), shifted_windows(8, 4, 0, 4).repeat(2, 1, 1)))
    assert reach(patches).all()
    assert uniform_distance(patches) == pytest.approx(uniform_distance(patch_attention(vit_maps(side=4))) / 4)


def test_batches_add_up_to_the_whole():
    whole = [vit_maps(batch=7, seed=block, block=block) for block in range(3)]
    measures = AttentionMeasures()
    for start, stop in ((0, 4), (4, 7)):
        for maps in reversed(whole):  # blocks come out in the order of the network
            measures.update(maps._replace(weights=maps.weights[start:stop]))
    found = measures.result()
    assert [block.block for block in found] == [0, 1, 2]
    for block, maps in zip(found, whole, strict=True):
        torch.testing.assert_close(block.distance, attention_distance(maps), rtol=1e-6, atol=0)
        torch.testing.assert_close(block.entropy, attention_entropy(maps), rtol=1e-6, atol=0)
        torch.testing.assert_close(block.divergence.kl, head_divergence(maps).kl, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(block.divergence.js, head_divergence(maps).js, rtol=1e-5, atol=1e-6)
        assert block.uniform_entropy == pytest.approx(math.log(25))


def test_entropy_is_not_that_of_the_mean_map():
    """Two images that look at different patches: each is certain, their mean is not."""
    weights = torch.zeros(2, 1, 4, 4)
    weights[0, ..., 0], weights[1, ..., 3] = 1, 1
    assert attention_entropy(ToyMaps(0, 0, weights, grid(2, 2))).item() == 0


def test_no_tensor_is_larger_than_the_attention(monkeypatch):
    """KL of all pairs without (W, N, N, T, T), and Jensen-Shannon pair by pair."""
    maps = vit_maps(batch=2, heads=6, side=4)
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                largest = max(largest, result.numel())
            return result

    with Watch():
        head_divergence(maps)
    assert 0 < largest <= maps.weights.numel()


@pytest.mark.parametrize(
    'wrong',
    [
        dict(positions=grid(4, 4)),
        dict(extra=0),
        dict(real=torch.ones(3, 25, dtype=torch.bool)),
        dict(weights=torch.ones(3, 4, 26, 25)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(wrong):
    with pytest.raises(ValueError, match='does not fit'):
        attention_distance(vit_maps()._replace(**wrong))
