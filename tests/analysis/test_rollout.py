from __future__ import annotations

import pytest
import torch

from mstkit.analysis import AttentionRollout
from mstkit.errors import UsageError

from .maps import ToyMaps, grid, random_attention, shifted_windows, vit_maps


def test_every_token_that_looks_at_itself_keeps_to_itself():
    rollout = AttentionRollout()
    for block in range(4):
        rollout.update(ToyMaps(block, 0, torch.eye(10).expand(2, 3, 10, 10), grid(3, 3), 1))
    assert torch.equal(rollout.result(), torch.eye(10).expand(2, 10, 10))


def test_against_a_plain_product():
    maps = [vit_maps(batch=2, side=3, seed=block, block=block) for block in range(3)]
    for residual in (0.5, 0.2):
        rollout = AttentionRollout(residual)
        for block in maps:
            rollout.update(block)
        for image in range(2):
            expected = torch.eye(10)
            for block in maps:
                mean = sum(block.weights[image, head] for head in range(4)) / 4
                expected = (residual * torch.eye(10) + (1 - residual) * mean) @ expected
            torch.testing.assert_close(rollout.result()[image], expected)
    torch.testing.assert_close(rollout.result().sum(dim=-1), torch.ones(2, 10))


def test_only_skips_or_no_skips():
    maps = vit_maps(batch=1, heads=1, side=2)
    for residual, expected in ((1, torch.eye(5)), (0, maps.weights[0, 0] @ maps.weights[0, 0])):
        rollout = AttentionRollout(residual)
        rollout.update(maps)
        rollout.update(maps)
        torch.testing.assert_close(rollout.result()[0], expected)


def test_mistakes():
    with pytest.raises(UsageError, match=r'residual 1\.5'):
        AttentionRollout(1.5)
    windows = ToyMaps(1, 0, random_attention(4, 2, 16), shifted_windows(8, 4, 2, 4))
    with pytest.raises(UsageError, match='block 2 of this network has windows'):
        AttentionRollout().update(windows)
    with pytest.raises(ValueError, match='no attention'):
        AttentionRollout().result()
