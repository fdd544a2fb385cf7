"""What every registered objective promises to the training step."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch

from mstkit.errors import UsageError
from mstkit.models import Objective, Pretrainer, Step
from mstkit.registry import MODELS
from mstkit.structures import Progress
from tests.models.builders import NECK, VIT, total, views
from tests.models.moby import mlp

SMALL = dict(type='ViTDecoder', embed_dims=24, num_layers=1, num_heads=2)
# What of an objective has no default; any other is built from its defaults.
ARGUMENTS: dict[str, dict[str, Any]] = {
    'CrossView': dict(neck=NECK, head=dict(type='DINOHead')),
    'ImageRestoration': dict(decoder=dict(type='CNNImageDecoder', channels=8)),
    'KeyContrast': dict(neck=mlp(), predictor=mlp(), head=dict(type='MoBYHead', queue_size=12)),
    'CurriculumMasking': dict(network=dict(num_layers=1)),
    'LossPrediction': dict(decoder=SMALL),
    'MaskedPrediction': dict(target=dict(type='Pixels'), decoder=dict(type='LinearDecoder')),
    'PatchDistillation': dict(neck=NECK, head=dict(type='IBOTHead')),
    'PrototypeMatching': dict(neck=NECK),
    'TargetViewContrast': dict(decoder=dict(type='LinearDecoder'), neck=mlp(), predictor=mlp()),
    'ViewContrast': dict(neck=mlp()),
}
# What has to come before it, without a weight.
BEFORE: dict[str, dict[str, Any]] = {
    name: dict(type='MaskedPrediction', target=dict(type='Pixels'), decoder=SMALL)
    for name in ('CurriculumMasking', 'LossPrediction', 'MaskGeneration')
}
# What else a method of it has to have.
PARTS: dict[str, dict[str, Any]] = {'MaskGeneration': dict(guide='generated')}
NAMES = sorted(name for name, cls in MODELS.module_dict.items() if inspect.isclass(cls) and issubclass(cls, Objective))
every_objective = pytest.mark.parametrize('name', NAMES)


def build(name: str, weight: float = 1.0, teacher: bool | None = None) -> Pretrainer:
    torch.manual_seed(0)
    objective = dict(ARGUMENTS.get(name, {}), type=name, weight=weight)
    targets = MODELS.get(name).target_needs is not None  # the second of two large views
    masker, count = dict(type='RandomMasker', ratio=0.5), 1 if targets else 2
    model = MODELS.build(
        dict(
            type='Pretrainer',
            backbone=VIT,
            objectives=dict(before=BEFORE.get(name), own=objective),
            masker=masker,
            global_views=count,
            teacher=teacher,
            **PARTS.get(name, {}),
        )
    )
    model.init_weights()
    model.set_progress(Progress(3, 10, 5, rank_seed=1, iteration=3))
    return model.train()


def test_the_objectives_are_found():
    assert set(ARGUMENTS) <= set(NAMES)


@every_objective
def test_a_step(name):
    model = build(name)
    objective = model.objectives['own']
    losses = model.loss(views(local=0))
    loss = losses['loss_own']
    assert loss.ndim == 0 and torch.isfinite(loss)
    total(losses).backward()
    assert [key for key, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    assert all(value.ndim == 0 and not value.requires_grad for value in objective.statistics.values())
    assert (model.teacher is not None) == objective.needs_teacher
    model.after_step()
    half = build(name, weight=0.5).loss(views(local=0))['loss_own']
    assert half.item() == pytest.approx(0.5 * loss.item(), rel=1e-5)


@every_objective
def test_views_that_it_does_not_read_are_refused(name):
    model = build(name)
    sizes = [view.shape[-1] for view in views(local=2)]
    model.check_view_count(sizes[:2])
    if model.objectives['own'].reads_local:
        model.check_view_count(sizes)
        assert torch.isfinite(model.loss(views(local=2))['loss_own'])
        return
    for idle in (sizes, [*sizes[:2], sizes[0]]):  # local ones, or a third that is as large as a global one
        with pytest.raises(UsageError, match=r'global_crops\.count=2 and local_crops\.count=0 of MultiCrop'):
            model.check_view_count(idle)
    with pytest.raises(UsageError, match='MultiCrop'):
        model.loss(views(local=2))


@every_objective
def test_it_reads_no_more_than_it_says(name):
    """What is left out of the tokens that it names is filled with nonsense, and its loss is the same."""
    losses = []
    for spoiled in (False, True):
        model = build(name)
        step = Step(model, views(local=0))
        read = dict(student=model.student_needs, teacher=model.teacher_needs, target=model.target_needs)
        for place, needs in read.items():
            if not spoiled or needs is None:
                continue
            tokens = getattr(step, place)
            patches = tokens.patch_tokens.clone()
            if needs == 'pooled':
                patches.fill_(1e3)
            elif needs == 'hidden':
                assert step.mask is not None
                patches[~step.mask.flatten(1)] = 1e3
            step.__dict__[place] = tokens._replace(patch_tokens=patches)  # where a cached property keeps its value
        if spoiled and model.teacher_needs is None:
            step.__dict__['teacher'] = None
        losses.append([one(step).item() for one in model.objectives.values()][-1])
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


@every_objective
def test_what_the_teacher_follows_is_copied(name):
    model = build(name, teacher=True)
    for part, module in model.objectives['own'].followed().items():
        copy = model.teacher.get_submodule(f'own_{part}')
        for own, theirs in zip(module.parameters(), copy.parameters(), strict=True):
            assert torch.equal(own, theirs) and own is not theirs and not theirs.requires_grad
