from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mstkit.errors import UsageError
from mstkit.evaluation.protocols.hidden_tokens import hide_tokens, random_orders


def hidden_by_loops(images: Tensor, order: Tensor, count: int, patch: tuple[int, int], fill: Tensor) -> Tensor:
    result = images.clone()
    columns = images.shape[3] // patch[1]
    for image in range(len(images)):
        for token in order[image, :count].tolist():
            top, left = token // columns * patch[0], token % columns * patch[1]
            for y in range(top, top + patch[0]):
                for x in range(left, left + patch[1]):
                    for channel in range(images.shape[1]):
                        result[image, channel, y, x] = fill[channel]
    return result


@pytest.mark.parametrize(
    ('ratio', 'count'), [(0, 0), (0.04, 0), (0.1, 1), (0.25, 3), (0.5, 6), (0.9, 10), (1, 12), (1.0, 12)]
)
def test_hiding_equals_a_plain_loop(ratio: float, count: int) -> None:
    torch.manual_seed(0)
    images, fill = torch.randn(3, 3, 6, 20), torch.tensor([-2.118, -2.036, -1.804])
    order = random_orders([0, 1, 2], 12, seed=1)
    before = images.clone()
    hidden = hide_tokens(images, order, ratio, (2, 5), fill)
    assert torch.equal(hidden, hidden_by_loops(images, order, count, (2, 5), fill))
    assert torch.equal(images, before)


def test_what_does_not_fit_is_refused() -> None:
    images, order, fill = torch.zeros(2, 3, 8, 8), random_orders([0, 1], 4, 0), torch.zeros(3)
    for ratio in (-0.1, 1.1, float('nan')):
        with pytest.raises(UsageError, match=r'share of hidden patches is .* in \[0, 1\]'):
            hide_tokens(images, order, ratio, (4, 4), fill)
    for patch in ((3, 4), (2, 2), (8, 8)):
        with pytest.raises(ValueError, match='order'):
            hide_tokens(images, order, 0.5, patch, fill)


def test_random_orders_belong_to_the_image_and_the_seed() -> None:
    together = random_orders([5, 6, 7, 8], 30, seed=2)
    apart = torch.cat([random_orders([5], 30, seed=2), random_orders([6, 7, 8], 30, seed=2)])
    assert torch.equal(together, apart)
    assert torch.equal(together.sort(dim=1).values, torch.arange(30).expand(4, -1))
    assert len({tuple(order) for order in together.tolist()}) == 4
    assert not torch.equal(together, random_orders([5, 6, 7, 8], 30, seed=3))
