"""What every parameter of every method starts as, by the role that it plays; the teacher starts as its student."""

from __future__ import annotations

import re

import pytest
import torch

from mstkit.registry import MODELS
from tests.engine.same_numbers import CASES, TEACHER, roles, small

# The first pattern that fits 'role/name' decides. 'torch' is a layer's own default, uniform within 1 / sqrt(inputs).
EXPECTED = (
    (r'mask token/', 'mask token'),
    (r'queue of keys/', 'unit rows'),
    (r'(projection|predictor)/bn\d\.weight|.*(ln\d|norms?\.?\d*)\.weight$', 'ones'),
    (r'(projection|predictor)/bn\d\.bias|.*(ln\d|norms?\.?\d*)\.bias$', 'zeros'),
    (r'backbone/patch_embed\.projection\.', 'torch'),
    (r'backbone/.*\.bias$', 'zeros'),
    (r'backbone/', 'normal'),  # DINO's and Swin's: truncated normal, 0.02
    (r'projection( of patches)?/mlp\..*\.weight$', 'normal'),
    (r'projection( of patches)?/mlp\..*\.bias$', 'zeros'),
    (r'projection( of patches)?/last_layer\..*original0$', 'ones'),
    (r'projection( of patches)?/last_layer\..*original1$', 'torch'),
    (r'projection/fc\d\.|predictor/fc\d\.', 'torch'),
    (r'decoder/', 'torch'),
)


def expected(role: str, name: str) -> str:
    found = next((kind for pattern, kind in EXPECTED if re.match(pattern, f'{role}/{name}')), None)
    assert found is not None, f'{role}/{name}: say in EXPECTED what it starts as'
    return found


def inputs_of(name: str, tensors: dict[str, torch.Tensor]) -> int:
    """What a layer adds up for each of its outputs."""
    return tensors[re.sub(r'bias$', 'weight', name)][0].numel()


@pytest.mark.parametrize('case', CASES)
def test_every_parameter_starts_as_its_role_says(case):
    torch.manual_seed(0)
    model = MODELS.build(small(case).model)
    model.init_weights()
    student = {(role, name): tensor for role, name, tensor in roles(model) if not role.endswith(TEACHER)}
    for (role, name), tensor in student.items():
        kind, place, count = expected(role, name), f'{role}/{name}', tensor.numel()
        if kind == 'mask token':  # MST's as BEiT's; zeros in iBOT's and AttMask's code
            kind = 'normal' if case.startswith('mst') else 'zeros'
        if kind in ('ones', 'zeros'):
            assert torch.equal(tensor, torch.full_like(tensor, float(kind == 'ones'))), place
        elif kind == 'unit rows':
            torch.testing.assert_close(tensor.norm(dim=1), torch.ones(len(tensor)), msg=place)
        else:
            inputs = inputs_of(name, {n: t for (r, n), t in student.items() if r == role}) if kind == 'torch' else 0
            deviation = 0.02 if kind == 'normal' else (3 * inputs) ** -0.5
            error = 5 * deviation / (2 * count) ** 0.5  # of a deviation that is estimated from so many values
            assert tensor.std().item() == pytest.approx(deviation, abs=max(error, 0.02 * deviation)), place
            assert abs(tensor.mean().item()) < 5 * deviation / count**0.5, place
            if kind == 'torch':
                assert tensor.abs().max() <= inputs**-0.5 + 1e-6, place


@pytest.mark.parametrize('case', CASES)
def test_a_teacher_starts_as_its_student(case):
    model = MODELS.build(small(case).model)
    model.init_weights()
    tensors = {(role, name): tensor for role, name, tensor in roles(model)}
    followed = {key for key in tensors if key[0].endswith(TEACHER)}
    assert {'backbone', 'projection'} <= {role.removesuffix(TEACHER) for role, _ in followed}
    for role, name in followed:
        assert torch.equal(tensors[role, name], tensors[role.removesuffix(TEACHER), name]), f'{role}/{name}'
        assert not tensors[role, name].requires_grad
