"""The pretended device finds what it is for, and computes what the CPU computes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.pretended_gpu import device as pretended
from benchmarks.pretended_gpu.device import COPY, DEVICE, GENERATOR, MIXED, WAIT, Device, OnDevice, events_of, moved
from tests.engine import same_numbers
from tests.models.builders import gradient_of

HOST = torch.arange(6.0).view(2, 3)


@pytest.fixture(autouse=True)
def _machine():
    with pretended.pretended_machine():
        yield


def on_device() -> torch.Tensor:
    """(2, 3), of 0 to 5."""
    return torch.arange(6, device='cuda').float().view(2, 3)


FOUND: dict[str, tuple[str, Callable[[torch.Tensor], object]]] = {
    'a number': (WAIT, lambda x: x.sum().item()),
    'a list': (WAIT, lambda x: x.tolist()),
    'a decision': (WAIT, lambda x: 1 if x.sum() > 0 else 2),
    'a whole number': (WAIT, lambda x: int(x.max())),
    'places': (WAIT, lambda x: x.nonzero()),
    'places by where': (WAIT, lambda x: torch.where(x > 2)),
    'chosen by a mask': (WAIT, lambda x: x[x > 2]),
    'chosen by a mask of the host': (WAIT, lambda x: x[HOST > 2]),
    'masked_select': (WAIT, lambda x: x.masked_select(x > 2)),
    'put by a mask': (WAIT, lambda x: x.clone().__setitem__(x > 2, x[0])),
    'unique': (WAIT, lambda x: x.unique()),
    'repeated': (WAIT, lambda x: x[0].repeat_interleave(torch.arange(3, device='cuda'))),
    'equal': (WAIT, lambda x: torch.equal(x, x)),
    'to the host': (WAIT, lambda x: x.cpu()),
    'copied to the host': (WAIT, lambda x: torch.zeros(2, 3).copy_(x)),
    'made on the host': (COPY, lambda x: torch.tensor([1.0, 2.0, 3.0], device='cuda')),
    'made like it': (COPY, lambda x: x.new_tensor([1.0])),
    'a constant': (COPY, lambda x: x + HOST.to(x.device)),
    'copied in': (COPY, lambda x: x.copy_(HOST)),
    'an index of the host': (COPY, lambda x: x[:, torch.tensor([0, 2])]),
    'pinned, but waited for': (COPY, lambda x: HOST.pin_memory().to(x.device)),
    'not pinned': (COPY, lambda x: HOST.to(x.device, non_blocking=True)),
    'a constant that was left': (MIXED, lambda x: x + HOST),
    'a layer that was left': (MIXED, lambda x: F.linear(x, torch.ones(2, 3))),
    'joined': (MIXED, lambda x: torch.cat((x, HOST))),
    'gathered': (MIXED, lambda x: x.gather(1, torch.zeros(2, 1, dtype=torch.int64))),
    'drawn by the host': (GENERATOR, lambda x: torch.rand(3, generator=torch.Generator(), device='cuda')),
}
NOT_FOUND: dict[str, Callable[[torch.Tensor], object]] = {
    'a number of the host': lambda x: x * 2.5 + 1,
    'a scalar tensor of the host': lambda x: x + torch.tensor(2.0),
    'filled': lambda x: x.new_full((3,), 2.0) + torch.zeros(3, device='cuda'),
    'filled by a mask': lambda x: x.clone().masked_fill_(x > 2, 0.0),
    'put by a mask': lambda x: x.clone().__setitem__(x > 2, 0.0),
    'chosen by where': lambda x: torch.where(x > 2, x, 0.0),
    'an index': lambda x: x[:, torch.arange(2, device='cuda')],
    'pinned': lambda x: HOST.pin_memory().to(x.device, non_blocking=True),
    'drawn': lambda x: torch.rand(3, generator=torch.Generator('cuda'), device='cuda'),
    'of another type': lambda x: x.half().float().to(torch.float64),
    'sorted': lambda x: x.topk(2).values.sort(stable=True),
}


@pytest.mark.parametrize('what', FOUND)
def test_what_a_gpu_would_wait_for_or_refuse_is_found(what):
    kind, act = FOUND[what]
    events = []
    with Device() as device:
        x = on_device()
        device.events.clear()
        try:
            act(x)
        except RuntimeError:  # of a layer on two devices, or of shapes that do not fit: it is written down before
            assert kind == MIXED
        events = device.events
    assert kind in {one.kind for one in events}, events
    assert {one.file for one in events} == {'device/test_pretended.py'}


@pytest.mark.parametrize('what', NOT_FOUND)
def test_nothing_else_is(what):
    with Device() as device:
        NOT_FOUND[what](on_device())
    assert device.operations and device.events == []


class Wrong(nn.Module):
    """Keeps a constant where no ``to`` reaches it, and looks at its result."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.left = nn.Linear(3, 3), torch.ones(3)
        self.register_buffer('taken', torch.ones(3), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.layer(x) * self.taken
        return y * self.left if y.sum() > -1e9 else y


def test_a_wrong_model_is_found_with_its_places():
    model = moved(Wrong())
    assert all(isinstance(one, OnDevice) and one.device == DEVICE for one in (*model.parameters(), *model.buffers()))

    def step() -> None:
        model(HOST.to('cuda')).sum().backward()

    found = {(one.kind, one.function) for one in events_of(step, [HOST])}
    # The forward pass, and the backward pass of the same product.
    assert found == {(WAIT, 'forward'), (MIXED, 'forward'), (MIXED, 'step')}
    assert all(gradient_of(parameter).device == DEVICE for parameter in model.parameters())


def test_the_batch_may_come_over_and_nothing_else():
    def act() -> None:
        HOST.to('cuda')
        HOST[1:].to('cuda')  # of the same memory
        HOST.clone().to('cuda')

    assert [one.kind for one in events_of(act, [HOST])] == [COPY]


def test_gradients_are_those_of_torchs_engine():
    """Of leaves and of inner tensors, accumulated, through branches, broadcasts and functions of Python's own."""

    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, factor, unused):
            ctx.factor = factor
            return x * factor, x.detach()

        @staticmethod
        def backward(ctx, gradient, _):
            return gradient * ctx.factor, None, None

    def gradients(device: str) -> list[torch.Tensor]:
        a, b, c = ((torch.arange(3.0) + start).to(device).requires_grad_() for start in (1, 2, 3))
        inner = a * b
        first, _ = Doubled.apply(inner + c[:1], 2.0, b)
        loss = (first * first.detach() + inner[None].expand(2, 3).sum(0) + a.split([1, 2])[1].sum()).sum()
        (slope,) = torch.autograd.grad(loss, inner, retain_graph=True)
        loss.backward(retain_graph=True)
        loss.backward()
        return [slope, *(gradient_of(one) for one in (a, b, c))]

    with Device():
        found = [one.cpu() for one in gradients('cuda')]
    for ours, theirs in zip(found, gradients('cpu'), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize('case', ['dino/dino_vit-tiny_folder', 'attmask/attmask-high_vit-tiny_folder'])
def test_a_step_is_the_same_as_on_the_cpu(case, monkeypatch):
    """The same masks and losses; what is left is that attention is computed as products, without a fused kernel."""
    without_drops = same_numbers.small(case)
    without_drops.model.backbone.drop_path_rate = 0.0  # on a CPU, images are left out rather than set to zero
    monkeypatch.setattr(same_numbers, 'small', lambda case: without_drops)
    monkeypatch.setattr(same_numbers, 'STEPS', 2)
    plain = same_numbers.trained(case)
    with Device() as device:
        found = same_numbers.trained(case, lambda step, model: model.to('cuda') if step == 0 else None)
    assert device.operations > 1000
    for name, values in plain.items():
        assert found[name] == pytest.approx(values, rel=1e-4), name
