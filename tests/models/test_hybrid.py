"""Parts of several papers in one config: each loss is what it is alone; and iBOT's separate heads by their formula."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmengine.config import Config
from torch import Tensor

from mstkit.models import AttMaskHigh, Pretrainer, Step
from mstkit.registry import MODELS
from mstkit.structures import Progress
from tests.docs.pages import ROOT
from tests.models.builders import NECK, VIT, views
from tests.models.mim_models import Given, build

HYBRID = ROOT / 'configs' / 'hybrid' / 'ibot-restore-attmask_vit-tiny_folder.py'


def small_hybrid() -> dict[str, Any]:
    """The config's model with a small encoder, projection and decoder."""
    config: Any = Config.fromfile(HYBRID).model.to_dict()
    config |= dict(patch_neck=None, objectives={})  # one projection, and the three losses whose sum it is
    return {**config, 'backbone': VIT, 'neck': NECK, 'decoder': {**config['decoder'], 'channels': 8}}


def other_teacher(model: Pretrainer) -> Pretrainer:
    model.init_weights()
    with torch.no_grad():
        for parameter in model.teacher.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
        if model.mask_token is not None:
            model.mask_token.add_(torch.randn_like(model.mask_token), alpha=0.1)
    model.set_progress(Progress(3, 100, 10, rank_seed=1, iteration=3))
    return model.train()


def alone(whole: Pretrainer, name: str, mask: Tensor) -> Pretrainer:
    """A model of one objective of the whole one, with the same weights, which hides the given mask."""
    parts = small_hybrid()
    configs: dict[str, dict[str, Any]] = dict(
        ce=dict(type='CrossView', neck=NECK, head={'type': 'DINOHead', **parts['head']}),
        patch=dict(type='PatchDistillation', neck=NECK, head=parts['patch_head']),
        restore=dict(type='ImageRestoration', decoder=parts['decoder'], weight=parts['loss_weight_restore']),
    )
    model: Any = MODELS.build(
        dict(type='Pretrainer', backbone=VIT, objectives={name: configs[name]}, masker=Given(mask), teacher=True)
    )
    state = whole.state_dict()
    if name == 'patch':  # a projection of its own instead of the shared one
        state |= {key.replace('ce.neck', 'patch.neck'): one for key, one in state.items() if 'ce.neck' in key}
        state |= {key.replace('ce_neck', 'patch_neck'): one for key, one in state.items() if 'ce_neck' in key}
    model.load_state_dict({key: one for key, one in state.items() if key in model.state_dict()}, strict=False)
    for key, one in model.named_parameters():
        assert torch.equal(one, state[key]), key
    model.set_progress(Progress(3, 100, 10, rank_seed=1, iteration=3))
    return model.train()


def test_the_losses_of_the_hybrid_are_those_of_its_parts_alone():
    """On the mask that the whole model drew where its teacher attends most."""
    torch.manual_seed(0)
    model, shown = other_teacher(MODELS.build(small_hybrid())), views()
    assert isinstance(model.masker, AttMaskHigh) and model.guided_by_teacher
    model.masker.image_prob = 1.0
    mask = Step(model, shown).mask
    assert mask is not None and mask.flatten(1).any(1).all()
    model.set_progress(Progress(3, 100, 10, rank_seed=1, iteration=3))
    losses = model.loss(shown)
    assert list(losses) == ['loss_ce', 'loss_patch', 'loss_restore']
    for name in ('ce', 'patch', 'restore'):
        (loss,) = alone(model, name, mask).loss(shown if name == 'ce' else shown[:2]).values()
        assert loss.item() == pytest.approx(losses[f'loss_{name}'].item(), rel=1e-5) and loss > 0.1, name


def test_separate_heads_are_their_formula():
    """Pooled features go through one projection and patches through another, of student and teacher each."""
    parts: dict[str, Any] = dict(neck=NECK, patch_neck=NECK, patch_head=dict(teacher_temp=0.03))
    model = other_teacher(build('IBOT', masker=dict(type='BlockMasker', image_prob=1.0), **parts))
    shown = views(local=0)
    step = Step(model, shown)
    assert step.mask is not None
    hidden, images = step.mask.flatten(1), torch.cat(shown)
    with torch.no_grad():
        seen = model.student_forward(images, step.mask)
        known = model.teacher_forward(images, attention=False)
        own, taught = model.objectives, model.teacher
        patches = own['patch'].neck(seen.patch_tokens[hidden]), taught.patch_neck(known.patch_tokens[hidden])
        pooled = own['ce'].neck(seen.pooled).chunk(2), taught.ce_neck(known.pooled).chunk(2)
        other = own['ce'].neck(seen.patch_tokens[hidden])
    assert not torch.allclose(patches[0], other, atol=0.1)

    def cross(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        return -((teacher / temperature).softmax(-1) * (student / 0.1).log_softmax(-1)).sum(-1)

    per_patch = cross(*patches, 0.03)
    of_image = hidden.nonzero()[:, 0]
    expected = torch.stack([per_patch[of_image == image].mean() for image in range(len(hidden))]).mean()
    (s1, s2), (t1, t2) = pooled
    between = (cross(s1, t2, 0.04).mean() + cross(s2, t1, 0.04).mean()) / 2
    model.set_progress(Progress(3, 100, 10, rank_seed=1, iteration=3))
    losses = model.loss(shown)
    assert losses['loss_patch'].item() == pytest.approx(expected.item(), rel=1e-5)
    assert losses['loss_ce'].item() == pytest.approx(between.item(), rel=1e-5)
