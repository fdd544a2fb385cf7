"""What is compiled, computed again or spread over processes comes to what plain DDP comes to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from mstkit.engine.runner.compiling import compile_parts
from tests.engine.processes import STEPS, in_ddp, in_parts, model, train, whole, wrapper_of
from tests.models.builders import TINY, VIT

TRACED = dict(backend='aot_eager')
BACKBONE = {**VIT, 'arch': dict(TINY, num_layers=2), 'drop_path_rate': 0.2}  # each other layer is compiled anew
# Name: activation checkpointing, compiled, spread.
KINDS = {
    'plain': (False, False, False),
    'compiled': (False, True, False),
    'compiled and computed again': (True, True, False),
    'spread and computed again': (True, False, True),
    'spread and compiled': (False, True, True),
    'all of it': (True, True, True),
}
# 'all of it' has the parts of these, which say which of them it is when that one fails.
SLOW = ('compiled and computed again', 'spread and compiled')


def _rank(rank: int, kinds: Sequence[str]) -> dict[str, Any]:
    found = {}
    torch._dynamo.reset()  # once: what a kind has compiled serves the next, where it is the same
    for kind in kinds:
        again, compiled, spread = KINDS[kind]
        built = model(backbone={**BACKBONE, 'with_cp': again})
        compile_parts(built, TRACED if compiled else None)
        run = in_parts(built) if spread else in_ddp(built)
        torch.manual_seed(rank)
        train(rank, built, run, wrapper_of(built), range(STEPS))
        found[kind] = whole(built.state_dict())
    torch._dynamo.reset()
    return found


@pytest.fixture(scope='module')
def trained(run_two) -> list[dict[str, Any]]:
    return run_two(_rank, [kind for kind in KINDS if kind not in SLOW])


def check(trained: list[dict[str, Any]], kind: str) -> None:
    for found in trained:
        for name, value in found['plain'].items():
            torch.testing.assert_close(found[kind][name], value, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize('kind', [kind for kind in KINDS if kind not in ('plain', *SLOW)])
def test_weights_are_those_of_plain_ddp(trained, kind):
    check(trained, kind)


@pytest.mark.slow
@pytest.mark.parametrize('kind', SLOW)
def test_so_are_those_of_each_pair(run_two, kind):
    check(run_two(_rank, ['plain', kind]), kind)
