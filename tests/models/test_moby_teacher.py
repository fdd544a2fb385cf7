"""When MoBY's teacher moves, on one process and on two, and that a resumed run repeats it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from mstkit.models import MomentumTeacher
from mstkit.structures import Progress
from tests.models.moby import STEPS, followed_weights, iterate, moby, optimizer_of, toy_images


@pytest.mark.parametrize('accumulate', [1, 2])
def test_teacher_follows_before_the_keys_are_made(accumulate, monkeypatch):
    """θ_t of step k is the closed form of the average over the students that the optimizer left, with m_k."""
    model = moby()
    optimizer = optimizer_of(model)
    schedule = MomentumTeacher({}, momentum=0.9)
    expected = followed_weights(model, model)
    used: list[dict[str, Tensor]] = []
    real = model.teacher.backbone.forward_tokens

    def spy(*args, **kwargs):
        used.append(followed_weights(model, model.teacher))
        return real(*args, **kwargs)

    monkeypatch.setattr(model.teacher.backbone, 'forward_tokens', spy)
    for iteration in range(4 * accumulate):
        step, inside = divmod(iteration, accumulate)
        if step and not inside:
            momentum = schedule.momentum_at(Progress(step, STEPS, 5))
            student = followed_weights(model, model)
            expected = {name: momentum * old + (1 - momentum) * student[name] for name, old in expected.items()}
        iterate(model, optimizer, iteration, accumulate)
        assert model.teacher.pending_steps.item() == (inside == accumulate - 1)
        assert used[-1].keys() == expected.keys()
        for name, tensor in used[-1].items():
            torch.testing.assert_close(tensor, expected[name], msg=name)
    assert len(used) == 4 * accumulate
    assert any(not torch.equal(used[0][name], used[-1][name]) for name in expected)


def test_teacher_stays_at_step_0_and_in_evaluation():
    model = moby()
    optimizer = optimizer_of(model)
    before = followed_weights(model, model.teacher)

    def moved() -> bool:
        return any(
            not torch.equal(tensor, before[name]) for name, tensor in followed_weights(model, model.teacher).items()
        )

    iterate(model, optimizer, 0)
    assert not moved()
    model.eval()
    model.loss(toy_images())
    model.panel(toy_images()[0])
    assert not moved()
    assert model.teacher.pending_steps.item() == 1
    model.train()
    model.loss(toy_images())
    assert moved()
    assert model.teacher.pending_steps.item() == 0


@pytest.mark.parametrize('accumulate', [1, 2])
@pytest.mark.parametrize('stop', [2, 4])
def test_loaded_midway_it_goes_on_to_the_bit(accumulate, stop):
    """Queues, pointer and the step that the teacher still has to follow are in the state dict."""
    whole = moby(masker=dict(type='RandomMasker', ratio=0.3))
    optimizer = optimizer_of(whole)
    for iteration in range(stop):
        iterate(whole, optimizer, iteration, accumulate)
    saved = copy.deepcopy((whole.state_dict(), optimizer.state_dict()))
    assert saved[0]['teacher.pending_steps'].item() == 1
    rest = moby(masker=dict(type='RandomMasker', ratio=0.3))
    rest_optimizer = optimizer_of(rest)
    rest.load_state_dict(saved[0])
    rest_optimizer.load_state_dict(saved[1])
    for iteration in range(stop, stop + 6):
        one = iterate(whole, optimizer, iteration, accumulate)
        two = iterate(rest, rest_optimizer, iteration, accumulate)
        assert torch.equal(one, two), iteration
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, rest.state_dict()[name]), name


def test_only_weights_loaded_from_a_longer_run_still_follow():
    """The buffer says whether to follow, not the number of the step."""
    old = moby()
    optimizer = optimizer_of(old)
    for iteration in range(5):
        iterate(old, optimizer, iteration)
    new = moby()
    new.load_state_dict(old.state_dict())
    optimizer = optimizer_of(new)
    for iteration in range(2):
        before = followed_weights(new, new.teacher)
        iterate(new, optimizer, iteration)
        assert any(not torch.equal(tensor, before[n]) for n, tensor in followed_weights(new, new.teacher).items())


def _train(rank: int, world: int) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Some steps on this rank's images, without batch normalization, which differs over CPU processes."""
    model = moby(norm='LN')
    wrapped: nn.Module = model
    if world > 1:
        wrapped = nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)
    optimizer = optimizer_of(model)
    losses = []
    for iteration in range(5):
        model.set_progress(Progress(iteration, STEPS, 5, iteration=iteration))
        inputs = [view[rank::world] for view in toy_images(seed=iteration)]
        (loss,) = wrapped(inputs, [], mode='loss').values()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.after_step()
        losses.append(loss.detach())
    return losses, model.state_dict()


def test_two_processes_equal_one(run_two):
    losses, state = _train(0, 1)
    (losses1, state1), (losses2, state2) = run_two(_train, 2)
    for one, two, both in zip(losses1, losses2, losses, strict=True):
        torch.testing.assert_close((one + two) / 2, both)
    for name, tensor in state.items():
        assert torch.equal(state1[name], state2[name]), name
        torch.testing.assert_close(state1[name], tensor, rtol=1e-4, atol=1e-5, msg=name)
