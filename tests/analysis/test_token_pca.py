from __future__ import annotations

import itertools

import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from mstkit.analysis.token_pca import scores_as_colors, token_pca


def rotation(size: int, seed: int = 0) -> Tensor:
    return torch.linalg.qr(torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))[
        0
    ]


def test_closed_form() -> None:
    """All corners of a box of half sides 3, 2, 1, turned and moved: its axes, and variances 9, 4 and 1 of 14."""
    corners = torch.tensor(list(itertools.product((-3.0, 3.0), (-2.0, 2.0), (-1.0, 1.0))), dtype=torch.float64)
    turned = torch.cat((corners, torch.zeros(8, 2)), dim=1) @ rotation(5).T + 7
    found = token_pca(turned.view(2, 4, 5), count=3)
    torch.testing.assert_close(found.explained, torch.tensor([9, 4, 1]) / 14)
    torch.testing.assert_close(found.scores.abs().flatten(0, 1), corners.abs().float())
    torch.testing.assert_close(
        (found.axes.double() @ rotation(5)[:, :3]).abs().float(), torch.eye(3), atol=1e-6, rtol=0
    )
    largest = found.axes.gather(1, found.axes.abs().argmax(1, keepdim=True))
    assert (largest > 0).all()


def test_against_scikit_learn() -> None:
    tokens = torch.randn(3, 20, 12, generator=torch.Generator().manual_seed(1)) @ torch.randn(12, 12)
    found, reference = token_pca(tokens, count=4), PCA(4).fit(tokens.flatten(0, 1).double().numpy())
    torch.testing.assert_close(found.explained, torch.from_numpy(reference.explained_variance_ratio_).float())
    scores = torch.from_numpy(reference.transform(tokens.flatten(0, 1).double().numpy())).float()
    signs = (found.axes * torch.from_numpy(reference.components_).float()).sum(1).sign()
    torch.testing.assert_close(found.scores.flatten(0, 1), scores * signs, atol=1e-4, rtol=1e-4)


def test_tokens_that_are_all_alike() -> None:
    found = token_pca(torch.full((2, 3, 4), 5.0))
    assert not found.explained.any() and not found.scores.any()
    assert (scores_as_colors(found.scores) == 0.5).all()


@pytest.mark.parametrize('shape', [(4, 5), (2, 3, 2), (0, 3, 4)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match='3 components of tokens'):
        token_pca(torch.zeros(shape))


def test_colors_span_their_range_without_outliers() -> None:
    scores = torch.arange(101.0).view(1, 101, 1).repeat(1, 1, 2)
    scores[0, 100, 1] = 1e6
    colors = scores_as_colors(scores, cut=0.01)
    assert colors[0, 0].tolist() == [0, 0] and colors[0, 100].tolist() == [1, 1]
    expected = (torch.arange(101.0) - 1) / 98  # what lies between the values 1 and 99
    torch.testing.assert_close(colors[0, :, 0], expected.clamp(0, 1))
    torch.testing.assert_close(colors[0, :, 1], expected.clamp(0, 1))
    with pytest.raises(ValueError, match=r'cut is 0\.5'):
        scores_as_colors(scores, cut=0.5)
