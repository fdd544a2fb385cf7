"""Five seeded steps give what they gave before the step was made faster and was rebuilt."""

from __future__ import annotations

import json

import pytest
import torch

from mstkit.registry import MODELS
from tests.engine.same_numbers import CASES, TEACHER, WRITTEN, draw, roles, small, trained


@pytest.mark.parametrize('case', CASES)
def test_five_steps_give_the_numbers_that_are_written_down(case):
    written, found = json.loads(WRITTEN.read_text())[case], trained(case)
    for name, values in written.items():
        assert found[name] == pytest.approx(values, rel=1e-5, abs=1e-5), name


@pytest.mark.parametrize('case', CASES)
def test_the_numbers_depend_on_roles_alone(case):
    drawn = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        model = MODELS.build(small(case).model)
        draw(model)
        drawn.append({(role, name): tensor.clone() for role, name, tensor in roles(model)})
    first, second = drawn
    assert len(first) == len(list(roles(model))), 'two parameters play one role'
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    followed = [(role, name) for role, name in first if role.endswith(TEACHER)]
    assert followed
    for role, name in followed:
        assert torch.equal(first[role, name], first[role.removesuffix(TEACHER), name])
