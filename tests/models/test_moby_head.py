"""MoBY's loss against a plain loop; what its queues hold, in which order, on one process and on two."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from mstkit.errors import UsageError
from mstkit.models import MoBYHead

DIM, QUEUE = 7, 12


def draw(batch: int = 4, seed: int = 0) -> torch.Tensor:
    """Two views, not normalized."""
    return 3 * torch.randn(2 * batch, DIM, generator=torch.Generator().manual_seed(seed))


def head(**options) -> MoBYHead:
    torch.manual_seed(5)
    return MoBYHead(**{'dim': DIM, 'queue_size': QUEUE, **options})


def loop_loss(queries, keys, queue1, queue2, temperature=0.2):
    """Query by query, as the paper words it."""
    batch = len(queries) // 2
    views = []
    for view, queue in ((0, queue2), (1, queue1)):
        terms = []
        for b in range(batch):
            query = queries[view * batch + b]
            key = keys[(1 - view) * batch + b]
            scores = [torch.cosine_similarity(query, other, dim=0) / temperature for other in (key, *queue)]
            terms.append(torch.logsumexp(torch.stack(scores), 0) - scores[0])
        views.append(sum(terms) / batch)
    return views[0] + views[1]


@pytest.mark.parametrize('temperature', [0.2, 1.0])
def test_loss_and_gradient_equal_the_loop(temperature):
    built = head(temperature=temperature)
    queries, keys = draw().requires_grad_(), draw(seed=1)
    expected = loop_loss(queries, keys, built.queue1.clone(), built.queue2.clone(), temperature)
    (wanted,) = torch.autograd.grad(expected, queries)
    loss = built.loss(queries, keys)
    (got,) = torch.autograd.grad(loss, queries)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(got, wanted)


def test_queues_start_as_different_directions():
    built = head()
    for queue in (built.queue1, built.queue2):
        assert queue.shape == (QUEUE, DIM)
        torch.testing.assert_close(queue.norm(dim=1), torch.ones(QUEUE))
    assert not torch.equal(built.queue1, built.queue2)
    assert set(dict(built.named_buffers())) == {'queue1', 'queue2', 'pointer'}
    assert list(built.parameters()) == []


def test_keys_replace_the_oldest_ones_and_wrap_around():
    built = head()
    expected = [built.queue1.clone(), built.queue2.clone()]
    place = 0
    # 3 rounds and a half; the last batch is smaller, as without drop_last, so that one later crosses the end.
    for step, batch in enumerate([4] * 10 + [3] + [4] * 3):
        keys = draw(batch, seed=step)
        built.loss(draw(batch, seed=100 + step), keys)
        for view, rows in enumerate(F.normalize(keys, dim=1).chunk(2)):
            for offset, row in enumerate(rows):
                expected[view][(place + offset) % QUEUE] = row
        place = (place + batch) % QUEUE
        torch.testing.assert_close(built.queue1, expected[0], rtol=0, atol=0)
        torch.testing.assert_close(built.queue2, expected[1], rtol=0, atol=0)
        assert built.pointer.item() == place


def test_a_step_does_not_see_its_own_keys_as_others():
    built = head()
    queries, keys = draw(), draw(seed=1)
    first = built.loss(queries, keys)
    again = built.loss(queries, keys)
    assert again > first


def test_evaluation_leaves_the_queues_alone():
    built = head().eval()
    before = {name: buffer.clone() for name, buffer in built.named_buffers()}
    built.loss(draw(), draw(seed=1))
    assert all(torch.equal(buffer, before[name]) for name, buffer in built.named_buffers())


def test_half_precision_is_computed_in_float32():
    queries, keys = draw().bfloat16(), draw(seed=1).bfloat16()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = head().loss(queries, keys)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, head().loss(queries.float(), keys.float()))


def test_no_gradient_reaches_the_keys():
    queries, keys = draw().requires_grad_(), draw(seed=1).requires_grad_()
    built = head()
    built.loss(queries, keys).backward()
    assert queries.grad is not None
    assert keys.grad is None
    assert not built.queue1.requires_grad


def test_statistics_count_the_queries_that_find_their_key():
    built = head()
    keys = draw(seed=1)
    built.loss(keys.roll(4, dims=0), keys)  # each query is the key of the other view
    assert built.statistics['contrast_top1'].item() == 1.0
    built.loss(-keys.roll(4, dims=0), keys)
    assert built.statistics['contrast_top1'].item() == 0.0


def test_dead_features_cost_what_uniform_ones_do_and_find_nothing():
    built = head()
    same = torch.ones(8, DIM)
    for _ in range(3):
        built.loss(same, same)
    loss = built.loss(same, same)
    assert loss.item() == pytest.approx(built.uniform_loss)
    assert built.uniform_loss == pytest.approx(2 * math.log(13))
    assert built.statistics['contrast_top1'].item() == 0.0


def _rank(rank: int, world: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    built = head()
    losses = []
    for step in range(5):
        mine = [draw(seed=s).view(2, 4, DIM)[:, rank::world].reshape(-1, DIM) for s in (step, 50 + step)]
        losses.append(built.loss(*mine))
    return torch.stack(losses), built.state_dict()


def test_two_processes_equal_one(run_two):
    """The queues to the bit, and the mean of both losses."""
    single = head()
    losses = torch.stack([single.loss(draw(seed=step), draw(seed=50 + step)) for step in range(5)])
    found = run_two(_rank, 2)
    torch.testing.assert_close((found[0][0] + found[1][0]) / 2, losses)
    for _, state in found:
        assert state.keys() == single.state_dict().keys()
        for name, buffer in single.state_dict().items():
            assert torch.equal(state[name], buffer), name


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(dim=0), 'dim is 0: give a whole number'),
        (dict(queue_size=12.0), r'queue_size is 12\.0: give a whole number'),
        (dict(queue_size=True), 'queue_size'),
        (dict(temperature=0), 'temperature is 0: give a number in'),
    ],
)
def test_mistakes_are_told(options, message):
    with pytest.raises(UsageError, match=message):
        head(**options)


@pytest.mark.parametrize(('images', 'sizes'), [(5, '10 or 15'), (8, '8 or 16'), (13, '13,'), (24, '24,')])
def test_a_batch_that_does_not_fit_the_queue_is_told(images, sizes):
    with pytest.raises(UsageError, match=rf'queue_size 12 .* global batch, {images} images.*head\.queue_size={sizes}'):
        head().check_batch(images)
    for fits in (1, 2, 3, 4, 6, 12):
        head().check_batch(fits)


def test_more_keys_than_the_queue_holds_are_refused():
    with pytest.raises(UsageError, match='13 images'):
        head().loss(draw(13), draw(13, seed=1))
