from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mstkit.errors import UsageError
from mstkit.evaluation.hidden_tokens import hide_tokens, random_orders, received_attention

from .frozen import Maps


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
        with pytest.raises(UsageError, match='from 0 to 1'):
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


def test_the_class_tokens_attention_is_the_mean_over_heads_of_its_row() -> None:
    torch.manual_seed(0)
    weights = torch.rand(2, 3, 8, 8).softmax(dim=-1)
    positions = torch.cartesian_prod(torch.tensor([4.0, 12.0]), torch.tensor([4.0, 12.0, 20.0]))
    received, grid = received_attention(Maps(weights, positions, 2), 2)
    assert grid == (2, 3)
    for image in range(2):
        for patch in range(6):
            mean = sum(float(weights[image, head, 0, 2 + patch]) for head in range(3)) / 3
            assert float(received[image, patch]) == pytest.approx(mean)


def test_without_class_token_patches_are_looked_at_by_their_window() -> None:
    """Windows of a 3 x 4 map, padded to 4 x 4, with a shift's order of rows: by the definition, one token at a time."""
    torch.manual_seed(1)
    places = torch.tensor([[(y, x) for y in ys for x in xs] for ys in ((1, 2), (9, 0)) for xs in ((2, 3), (0, 1))])
    real = places[:, :, 0] != 9
    weights = torch.rand(2 * 4, 2, 4, 4).softmax(dim=-1)
    maps = Maps(weights, (places * 8.0 + 4).repeat(2, 1, 1), 0, real.repeat(2, 1))
    received, grid = received_attention(maps, 2)
    assert grid == (3, 4) and received.shape == (2, 12)
    for image in range(2):
        for window in range(4):
            asking = [token for token in range(4) if real[window, token]]
            for token in asking:
                block = weights[4 * image + window]
                mean = sum(float(block[head, other, token]) for head in range(2) for other in asking) / 2 / len(asking)
                y, x = places[window, token].tolist()
                assert float(received[image, 4 * y + x]) == pytest.approx(mean)


def test_windows_without_padding() -> None:
    weights = torch.rand(4, 2, 4, 4).softmax(dim=-1)
    places = torch.tensor([[(y, x) for y in ys for x in (0, 1)] for ys in ((0, 1), (2, 3))]) * 4.0 + 2
    received, grid = received_attention(Maps(weights, places.repeat(2, 1, 1), 0), 2)
    assert grid == (4, 2)
    torch.testing.assert_close(received, weights.mean(dim=(1, 2)).view(2, 8))
    torch.testing.assert_close(received.sum(dim=1), torch.full((2,), 2.0))
