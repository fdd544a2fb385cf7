"""What a step launches on a GPU, counted on the pretended one, against counts on paper."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.pretended_gpu.device import DEVICE, moved, pretended_machine
from benchmarks.pretended_gpu.launches import BLOCK, COMPILED, Counted, chunked
from mstkit.models.weight_casts import CastBlock, WeightCasts
from tests.device.test_pretended import on_device
from tests.models.builders import gradient_of
from tests.programs import ROOT, load_program

NUMBERS = [torch.arange(4.0), torch.arange(3.0)]


def counted(act: Callable[[], object]) -> Counted:
    with Counted() as device:
        act()
    return device


@pytest.fixture
def _machine():
    with pretended_machine():
        yield


@pytest.mark.usefixtures('_machine')
@pytest.mark.parametrize(
    ('act', 'launches'),
    [
        (lambda x: x + 1, 1),
        (lambda x: (x + 1).relu_(), 2),
        (lambda x: x.T.reshape(3, 2)[1:].unsqueeze(0).expand(4, 2, 2), 0),
        (lambda x: x.T.contiguous(), 1),
        (lambda x: torch.empty(3, device='cuda'), 0),
        (lambda x: torch.zeros(3, device='cuda'), 1),
        (lambda x: x.half(), 1),
        (lambda x: x.float(), 0),
        (lambda x: x[:0] + 1, 0),
        (lambda x: x.cpu(), 0),
        (lambda x: x @ x.T, 1),
        (lambda x: torch._foreach_add([x, x], 1.0), 1),
        (lambda x: torch._foreach_mul_([x.clone(), x.clone()], [x, x]), 3),
    ],
)
def test_operations(act, launches):
    with Counted():
        given = on_device()
    assert counted(lambda: act(given)).launched == launches


@pytest.mark.usefixtures('_machine')
def test_attention_is_a_kernel_and_so_is_its_gradient():
    for dtype, kind in ((torch.float32, 'efficient'), (torch.bfloat16, 'flash')):
        with Counted() as device:
            query, key, value = (
                torch.rand(2, 3, 5, 8, generator=torch.Generator().manual_seed(number)).to(DEVICE, dtype)
                for number in range(3)
            )
            query.requires_grad_()
            device.kernels.clear()
            out = F.scaled_dot_product_attention(query, key, value)
            assert device.kernels == {f'_scaled_dot_product_{kind}_attention': 1}
            (gradient,) = torch.autograd.grad(out, query, torch.ones_like(out))
            assert device.kernels[f'_scaled_dot_product_{kind}_attention_backward'] == 1
            on_host = [one.detach().cpu() for one in (query, key, value)]
            found = [one.detach().cpu() for one in (out, gradient)]
        on_host[0].requires_grad_()
        expected = F.scaled_dot_product_attention(*on_host)
        torch.testing.assert_close(found[0], expected)
        torch.testing.assert_close(found[1], torch.autograd.grad(expected, on_host[0], torch.ones_like(expected))[0])


@pytest.mark.usefixtures('_machine')
def test_an_optimizer_by_lists_is_a_kernel_for_36_tensors():
    with Counted() as device:
        parameters = [nn.Parameter(torch.ones(2, device=DEVICE)) for _ in range(72)]
        optimizer = torch.optim.AdamW(parameters, fused=True)
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    assert device.kernels['_fused_adamw_'] == 2


def test_lists_are_launched_in_chunks():
    """By torch's rule: 110 tensors of one list or 36 of each of four, 320 blocks of 65536 numbers."""
    assert chunked([10] * 110, 1) == 1 and chunked([10] * 111, 1) == 2
    assert chunked([10] * 36, 4) == 1 and chunked([10] * 100, 4) == 3
    assert chunked([BLOCK * 320], 1) == 1 and chunked([BLOCK * 320 + 1], 1) == 2
    assert chunked([BLOCK * 200, BLOCK * 200], 1) == 2
    assert chunked([0, 0], 1) == 0 and chunked([], 1) == 0


@pytest.mark.usefixtures('_machine')
def test_bytes_copies_and_waits():
    with Counted() as device:
        there = NUMBERS[0].to(DEVICE)
        assert (device.copies, device.copied, device.launched) == (1, 16, 0)
        there = there + there
        assert device.moved == 3 * 16, 'two operands and a result'
        there.expand(5, 4).sum()
        assert device.moved == 3 * 16 + 16 + 4, 'what is expanded is read once'
        assert device.waits == 0
        there.sum().item()
        assert device.waits == 1


class Branch(nn.Module):
    """Something that fuses: a norm, a product and what follows it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(8), nn.Linear(8, 8)

    def add(self, x: torch.Tensor, scale: torch.Tensor | None) -> torch.Tensor:
        y = F.gelu(self.linear(self.norm(x)))
        return x + (y if scale is None else y * scale)


@pytest.mark.usefixtures('_machine')
def test_a_plan_takes_the_place_of_what_is_compiled():
    """Forward: the norm, the product with its bias, the rest. The values stay."""
    branch, host = moved(Branch()), Branch()
    found: dict[bool, tuple[int, int]] = {}
    for compiled in (False, True):
        with Counted() as device:
            host.load_state_dict({name: value.cpu() for name, value in branch.state_dict().items()})
            branch.zero_grad()
            x, scale = NUMBERS[0].repeat(6, 2).to(DEVICE), torch.ones(6, 1, device=DEVICE)
            device.kernels.clear()
            run = device.compiler(Branch.add) if compiled else Branch.add
            out = run(branch, x, scale)
            forward = device.launched
            out.square().sum().backward()
            gradients = [gradient_of(parameter).cpu() for parameter in branch.parameters()]
            found[compiled] = forward, device.kernels[COMPILED]
        host.zero_grad()
        host.add(NUMBERS[0].repeat(6, 2), torch.ones(6, 1)).square().sum().backward()
        plans = list(device.plans.values())
        for one, parameter in zip(gradients, host.parameters(), strict=True):
            torch.testing.assert_close(one, parameter.grad)
    (plan,) = plans
    assert found == {False: (5, 0), True: (3, plan.forward + plan.backward)}
    assert plan.forward == 3 and plan.backward > 3, 'two products and what Inductor fuses around them'


@CastBlock.register
class CastBranch(Branch):
    """One whose weights are cast before it is called."""


@pytest.mark.usefixtures('_machine')
@pytest.mark.parametrize('compiled', [False, True])
def test_casts_around_a_plan_are_no_part_of_it(compiled):
    branch: Any = moved(CastBranch())
    with Counted() as device:
        x = NUMBERS[0].repeat(6, 2).to(DEVICE)
        run = device.compiler(Branch.add) if compiled else Branch.add
        with torch.autocast('cuda', dtype=torch.bfloat16), WeightCasts(branch).in_half():
            out = run(branch, x, None)
        out.float().square().sum().backward()
        assert gradient_of(branch.linear.weight).dtype == torch.float32
    assert device.kernels['_foreach_copy_'] == 2, 'weight and bias, and their gradients'


def test_the_benchmark_counts_a_step(monkeypatch, tmp_path, capsys):
    module = load_program('benchmarks/kernels.py')
    config = str(ROOT / 'configs/demo/mst_vit-nano_scenes.py')

    def run(*words) -> tuple[int, str]:
        monkeypatch.setattr('sys.argv', ['kernels.py', *map(str, words)])
        try:
            module.main()
        except SystemExit as end:
            return int(end.code or 0), capsys.readouterr().err
        return 0, capsys.readouterr().out

    code, said = run(config, '--batch-size', 2, '--most', 3, '--json', tmp_path / 'out.json')
    assert code == 0
    found = json.loads((tmp_path / 'out.json').read_text())
    assert found == json.loads(said.splitlines()[-1])
    (one,) = found['results'].values()
    assert one['launches'] == sum(one['phases'].values()) == sum(one['operations'].values()) > 300
    assert one['phases']['optimizer'] < 20, 'not one for each parameter'
    assert {'data', 'student', 'teacher', 'backward', 'EMA'} <= set(one['phases'])
    assert one['copies'] >= 4 and one['copied_mb'] > 0.01 and one['moved_mb'] > 10 and one['waits'] == 0
    assert sum(line.startswith('    ') for line in said.splitlines()) == 3
    code, said = run(config, config)
    assert code == 2 and 'is named twice' in said
