"""The teacher is an exponential moving average, and nothing else moves it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from mstkit.errors import UsageError
from mstkit.models import MaskedBackbone, MomentumTeacher
from mstkit.registry import MODELS
from mstkit.structures import Progress
from tests.models.builders import SWIN, VIT


def student() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {'body': nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5)), 'tail': nn.Linear(6, 2)}


def parameters(modules) -> list[torch.Tensor]:
    return [p.detach().clone() for module in modules.values() for p in module.parameters()]


def test_closed_form_after_several_steps():
    """Invariant 5: θ_t(k) = m^k θ_0 + (1-m) Σ m^(k-1-i) θ_s(i)."""
    parts = student()
    teacher = MomentumTeacher(parts, momentum=0.9, end_momentum=0.9)
    expected = parameters(parts)
    for _ in range(7):
        with torch.no_grad():
            for module in parts.values():
                for p in module.parameters():
                    p.add_(torch.randn_like(p))
        teacher.update(parts)
        expected = [0.9 * t + 0.1 * s for t, s in zip(expected, parameters(parts), strict=True)]
    for got, wanted in zip(teacher.parameters(), expected, strict=True):
        torch.testing.assert_close(got, wanted)


def test_momentum_follows_dinos_cosine():
    teacher = MomentumTeacher(student(), momentum=0.996)
    steps = [teacher.momentum_at(Progress(i, 200, 10)) for i in range(200)]
    expected = [1 + 0.5 * (0.996 - 1) * (1 + math.cos(math.pi * i / 200)) for i in range(200)]
    assert steps == pytest.approx(expected, abs=1e-12)
    assert steps[0] == 0.996
    teacher.set_progress(Progress(100, 200, 10))
    assert teacher.momentum == pytest.approx(0.998)


@pytest.mark.parametrize('policy', ['own', 'copy', 'average'])
def test_buffer_policies(policy):
    parts = student()
    teacher = MomentumTeacher(parts, momentum=0.9, end_momentum=0.9, buffers=policy)
    norm = parts['body'].get_submodule('1')
    norm.get_buffer('running_mean').fill_(1.0)
    norm.get_buffer('num_batches_tracked').fill_(5)
    teacher.update(parts)
    mean = teacher.get_buffer('body.1.running_mean')[0].item()
    batches = teacher.get_buffer('body.1.num_batches_tracked').item()
    assert (mean, batches) == {'own': (0, 0), 'copy': (1, 5), 'average': (pytest.approx(0.1), 5)}[policy]


def test_teacher_takes_no_gradient_and_has_no_drops():
    for config in (VIT, SWIN):
        backbone = MODELS.build({**config, 'drop_path_rate': 0.5, 'drop_rate': 0.5})
        teacher = MomentumTeacher({'backbone': backbone})
        teacher.train()
        assert not any(p.requires_grad for p in teacher.parameters())
        assert all(p.requires_grad for p in backbone.parameters())
        x = torch.randn(2, 3, 224, 224) if config is SWIN else torch.randn(2, 3, 32, 32)
        frozen = teacher.get_submodule('backbone')
        assert isinstance(frozen, MaskedBackbone)
        seen = [frozen.forward_tokens(x).pooled for _ in range(2)]
        assert torch.equal(*seen), 'a training teacher is deterministic'


def test_copy_from_takes_buffers_along():
    parts = student()
    teacher = MomentumTeacher(parts)
    with torch.no_grad():
        for module in parts.values():
            for tensor in [*module.parameters(), *module.buffers()]:
                tensor.add_(1)
    teacher.copy_from(parts)
    for name, module in parts.items():
        for key, tensor in module.state_dict().items():
            assert torch.equal(teacher.get_submodule(name).state_dict()[key], tensor)


def test_mistakes_are_told():
    for options in (dict(momentum=1.5), dict(momentum=-0.1), dict(momentum=0.99, end_momentum=0.5)):
        with pytest.raises(UsageError, match='momentum'):
            MomentumTeacher(student(), **options)
    with pytest.raises(UsageError, match="buffers is 'ema': give 'own', 'copy' or 'average'"):
        MomentumTeacher(student(), buffers='ema')
