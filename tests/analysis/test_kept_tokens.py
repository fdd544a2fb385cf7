from __future__ import annotations

import itertools

import pytest
import torch

from mstkit.analysis.kept_tokens import kept_tokens
from mstkit.errors import UsageError


@pytest.mark.parametrize('share', [0.1, 0.6, 0.9, 1.0])
def test_the_fewest_that_hold_the_share(share: float) -> None:
    """Against all subsets, of which the smallest that is enough is taken, and of those the one with most."""
    attention = torch.rand(3, 2, 7, generator=torch.Generator().manual_seed(0))
    kept = kept_tokens(attention, share)
    for row, found in zip(attention.flatten(0, 1).double(), kept.flatten(0, 1), strict=True):
        subsets = [set(one) for size in range(1, 8) for one in itertools.combinations(range(7), size)]
        enough = [one for one in subsets if row[list(one)].sum() >= share * row.sum() - 1e-12]
        fewest = min(len(one) for one in enough)
        best = max((one for one in enough if len(one) == fewest), key=lambda one: float(row[list(one)].sum()))
        assert set(found.nonzero().flatten().tolist()) == best


def test_even_attention_and_none() -> None:
    assert kept_tokens(torch.full((10,), 0.3), 0.6).sum() == 6
    assert kept_tokens(torch.full((10,), 0.3), 1.0).all()
    assert kept_tokens(torch.tensor([0.0, 1.0, 0.0]), 0.01).tolist() == [False, True, False]
    assert not kept_tokens(torch.zeros(4), 0.6).any()


@pytest.mark.parametrize('share', [0, -0.1, 1.1, float('nan')])
def test_other_shares_are_refused(share: float) -> None:
    with pytest.raises(UsageError, match='above 0 and up to 1'):
        kept_tokens(torch.ones(3), share)
