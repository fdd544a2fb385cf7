"""A method is a list of objectives on one step: what they need is made once, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmengine.config import ConfigDict
from torch import Tensor

from mstkit.errors import UsageError
from mstkit.models import Guide, Masker, Objective, Pretrainer, Step
from mstkit.models.objectives import Surroundings
from mstkit.registry import MODELS
from mstkit.structures import MaskContext, Progress, TokenOutput
from tests.models.builders import NECK, VIT, views

CROSS_VIEW = dict(type='CrossView', neck=NECK, head=dict(type='DINOHead'))
PATCHES = dict(type='PatchDistillation', head=dict(type='IBOTHead'))
EXACT = dict(type='RandomMasker', ratio=0.1)
RESTORATION = dict(type='ImageRestoration', decoder=dict(type='CNNImageDecoder', channels=8))


@pytest.fixture(autouse=True)
def registry_as_it_was():
    before = dict(MODELS.module_dict)
    yield
    MODELS.module_dict.clear()
    MODELS.module_dict.update(before)


def build(objectives: dict[str, Any], **parts: Any) -> Pretrainer:
    config = dict(type='Pretrainer', backbone=VIT, objectives=objectives, data_preprocessor=dict(mean=[0.0], std=[1.0]))
    model = MODELS.build({**config, **parts})
    model.init_weights()
    model.set_progress(Progress(0, 100, 10, rank_seed=1))
    return model.train()


def views_for(model: Pretrainer) -> list[Tensor]:
    """Global views, and local ones where an objective reads them."""
    return views(local=2 if any(one.reads_local for one in model.objectives.values()) else 0)


class Calls:
    """Counts the passes of a backbone, and which tokens and what attention they were asked for."""

    def __init__(self, monkeypatch, backbone) -> None:
        self.seen: list[tuple[int, str, bool]] = []
        real = backbone.forward_tokens

        def spy(images: Tensor, mask=None, return_attention=False, mask_token=None, attention_layer=-1, read='all'):
            self.seen.append((images.shape[-1], read, return_attention))
            return real(images, mask, return_attention, mask_token, attention_layer, read)

        monkeypatch.setattr(backbone, 'forward_tokens', spy)


class FirstPatches(Objective):
    """An objective without a teacher: the student's patch tokens are to be zero."""

    student_needs = 'all'

    def __init__(self, surroundings: Surroundings, weight: float = 1.0) -> None:
        super().__init__(surroundings, weight)

    def forward(self, step: Step) -> Tensor:
        loss = step.student.patch_tokens.square().mean()
        self.statistics = {'size': loss.detach()}
        return loss


@pytest.mark.parametrize(
    ('objectives', 'student', 'teacher'),
    [
        (dict(ce=CROSS_VIEW), 'pooled', 'pooled'),
        (dict(ce=CROSS_VIEW, patch=PATCHES), 'hidden', 'all'),
        (dict(ce=CROSS_VIEW, restore=RESTORATION), 'all', 'pooled'),
        (dict(restore=RESTORATION), 'all', None),
        (dict(restore=RESTORATION, ce=None), 'all', None),
    ],
)
def test_what_is_needed_is_the_union_and_each_network_runs_once_per_size(monkeypatch, objectives, student, teacher):
    model = build(objectives, masker=dict(type='RandomMasker', ratio=0.5), teacher=True)
    assert (model.student_needs, model.teacher_needs) == (student, teacher)
    of_student, of_teacher = Calls(monkeypatch, model.backbone), Calls(monkeypatch, model.teacher.backbone)
    losses = model.loss(views_for(model))
    assert set(losses) == {f'loss_{name}' for name, config in objectives.items() if config is not None}
    assert of_student.seen == [(32, student, False)] + (
        [(16, 'pooled', False)] if 'CrossView' in str(objectives) else []
    )
    assert of_teacher.seen == ([] if teacher is None else [(32, teacher, False)]), 'a random mask asks nobody'


def test_a_masker_that_is_guided_costs_attention_in_the_pass_that_is_made_anyway(monkeypatch):
    model = build(dict(ce=CROSS_VIEW), masker=dict(type='AttMaskHigh', image_prob=1.0))
    calls = Calls(monkeypatch, model.teacher.backbone)
    model.loss(views())
    assert calls.seen == [(32, 'pooled', True)]


def test_objectives_of_a_config_file_are_built():
    """There they are mmengine's ConfigDicts, which turn what is put into them into their own kind."""
    config = ConfigDict(type='Pretrainer', backbone=VIT, objectives=dict(ce=CROSS_VIEW, restore=RESTORATION))
    assert list(MODELS.build(config).objectives) == ['ce', 'restore']
    flat = ConfigDict(type='DINO', backbone=VIT, neck=NECK, objectives=dict(restore=RESTORATION))
    assert list(MODELS.build(flat).objectives) == ['ce', 'restore']


def test_without_a_teacher():
    MODELS.register_module(module=FirstPatches)
    model = build(dict(own=dict(type='FirstPatches', weight=0.5)), teacher=False, masker=dict(type='RandomMasker'))
    (loss,) = model.loss(views_for(model)).values()
    assert loss == 0.5 * model.last_statistics()['size']
    loss.backward()
    model.after_step()
    assert list(model.branches()) == ['student']
    assert not any('teacher' in key for key in model.state_dict())
    panel = model.panel(views()[0])
    assert panel.attention is None and panel.mask is not None
    with pytest.raises(UsageError, match="objective 'ce' needs a teacher"):
        build(dict(ce=CROSS_VIEW), teacher=False)
    with pytest.raises(UsageError, match='AttMaskHigh needs a guide'):
        build(dict(own=dict(type='FirstPatches')), teacher=False, masker=dict(type='AttMaskHigh'))


@pytest.mark.parametrize(
    ('parts', 'there'),
    [
        (dict(objectives=dict(restore=RESTORATION)), False),
        (dict(objectives=dict(restore=RESTORATION), masker=dict(type='RandomMasker')), False),
        (dict(objectives=dict(restore=RESTORATION), masker=dict(type='AttMaskHigh')), True),
        (dict(objectives=dict(restore=RESTORATION), masker=dict(type='RandomMasker'), teacher=True), True),
        (dict(objectives=dict(restore=RESTORATION), teacher=dict(momentum=0.9)), True),
        (dict(objectives=dict(ce=CROSS_VIEW)), True),
        (
            dict(
                objectives=dict(restore=RESTORATION),
                masker=dict(type='MaskerSchedule', phases=[(0, None), (9, dict(type='AttMaskLow'))]),
            ),
            True,
        ),
    ],
)
def test_a_teacher_is_kept_if_somebody_looks_at_it(parts, there):
    model = build(**parts)
    assert (model.teacher is not None) is there
    assert list(model.branches()) == ['student', 'teacher'][: 1 + there]
    model.loss(views_for(model))
    model.after_step()


@pytest.mark.parametrize('masker', [dict(type='RandomMasker', ratio=0.5), dict(type='AttMaskHigh', ratio=0.5)])
def test_several_patches_are_hidden_as_one(masker):
    """Decided on the coarser grid, by the mean of what the guide says of a square's patches."""
    model = build(dict(restore=RESTORATION), masker=masker, mask_patch_size=16)
    step = Step(model, views())
    assert step.mask is not None and step.mask.shape == (4, 4, 4)
    cells = step.mask.unflatten(2, (2, 2)).unflatten(1, (2, 2)).float().mean(dim=(2, 4))
    assert set(cells.unique().tolist()) == {0.0, 1.0}
    assert model.masker is not None
    if model.masker.needs_scores:
        assert step.teacher.attention is not None
        scores = step.teacher.attention.mean(dim=1).view(4, 2, 2, 2, 2).mean(dim=(2, 4)).flatten(1)
        most = cells.flatten(1).sum(dim=1).int()
        for score, hidden, count in zip(scores, cells.flatten(1), most, strict=True):
            assert set(score.topk(int(count)).indices.tolist()) == set(hidden.nonzero().flatten().tolist())
    model.check_views(32)
    with pytest.raises(UsageError, match=r'mask_patch_size=16 does not divide views of 40 px: use 32 or 48 px'):
        model.check_views(40)
    with pytest.raises(UsageError, match=r'Pretrainer\.mask_patch_size is 12, .* 8 px each: give 8 or 16'):
        build(dict(restore=RESTORATION), masker=masker, mask_patch_size=12)


def test_a_guide_of_ones_own():
    class Corner(Guide):
        """Attention on the first patch alone."""

        def forward(self, step: Step, masker: Masker) -> TokenOutput:
            grid = step.model.backbone.grid_of(step.images)
            attention = torch.zeros(len(step.images), 1, grid[0] * grid[1])
            attention[..., 0] = 1.0
            return TokenOutput(torch.zeros(0), torch.zeros(0), grid, attention)

    MODELS.register_module(module=Corner)
    model = build(
        dict(ce=CROSS_VIEW), guide=dict(type='Corner'), masker=dict(type='AttMaskHigh', ratio=1 / 16, image_prob=1.0)
    )
    step = Step(model, views())
    assert step.mask is not None and step.mask.flatten(1).nonzero()[:, 1].tolist() == [0] * 4
    assert step.teacher.attention is None, 'the teacher is not asked for what another guide knows'
    unfit = [('techer', 'model.guide is'), (None, 'needs a guide'), (dict(NECK, in_channels=4), 'is not a guide')]
    for guide, message in unfit:
        with pytest.raises(UsageError, match=message):
            build(dict(ce=CROSS_VIEW), guide=guide, masker=dict(type='AttMaskHigh'))


def test_a_masker_gets_the_tokens_that_it_needs_and_no_others():
    told: list[MaskContext] = []

    class Curious(Masker):
        """Keeps what it is told, hides nothing."""

        needs_tokens = True

        def hide(self, context: MaskContext, generator: torch.Generator) -> Tensor:
            told.append(context)
            return torch.zeros(context.shape, dtype=torch.bool)

    MODELS.register_module(module=Curious)
    model = build(dict(ce=CROSS_VIEW), masker=dict(type='Curious'))
    model.loss(views())
    (context,) = told
    assert context.images.shape == (4, 3, 32, 32) and context.grid == (4, 4) and context.scores is None
    expected = model.teacher.backbone.forward_tokens(torch.cat(views()[:2])).patch_tokens
    torch.testing.assert_close(context.tokens, expected)


def test_objectives_share_a_projection_or_have_their_own():
    masker = dict(type='BlockMasker', image_prob=1.0)
    shared = build(dict(ce=CROSS_VIEW, patch=PATCHES), masker=masker)
    assert [name for name, _ in shared.teacher.named_children()] == ['backbone', 'ce_neck']
    own = build(dict(ce=CROSS_VIEW, patch=dict(PATCHES, neck=NECK)), masker=masker)
    assert [name for name, _ in own.teacher.named_children()] == ['backbone', 'ce_neck', 'patch_neck']
    alone = build(dict(patch=dict(PATCHES, neck=NECK)), masker=masker)
    assert torch.isfinite(alone.loss(views_for(alone))['loss_patch'])
    with pytest.raises(UsageError, match="shares the neck of the objective 'ce', but there is no such objective"):
        build(dict(patch=PATCHES), masker=masker)
    with pytest.raises(UsageError, match='no objective'):
        build(dict(ce=None))


@pytest.mark.parametrize(
    ('masker', 'equal'),
    [
        (dict(type='RandomMasker', ratio=0.5), True),
        (dict(type='RandomMasker', ratio=(0.1, 0.5)), False),
        (dict(type='RandomMasker', prob=0.5), False),
        (dict(type='RandomMasker', ratio=0.5, image_prob=0.5), False),
        (dict(type='BlockMasker', ratio=0.4, image_prob=1.0), True),
        (dict(type='BlockMasker', ratio=(0.1, 0.5), image_prob=1.0), False),
        (dict(type='AttMaskHigh', image_prob=1.0), True),
        (dict(type='AttMaskHint', image_prob=1.0, show_max=0.4), False),
        (dict(type='AttMaskHint', image_prob=1.0, show_max=0.4, ratio=(0.4, 0.5)), True),
        (dict(type='AttMaskLow'), False),
        (dict(type='AttentionGuidedMasker', num=2, prob=0.5), False),
        (dict(type='AttentionGuidedMasker', num=2, prob=1.0), True),
        (dict(type='MaskerSchedule', phases=[(0, None), (2, dict(type='RandomMasker', ratio=0.5))]), True),
        (dict(type='MaskerSchedule', phases=[(0, None), (2, dict(type='RandomMasker'))]), False),
        (dict(type='RatioSchedule', masker=EXACT, start=0.2, end=0.8, epochs=4), True),
        (dict(type='RatioSchedule', masker=EXACT, start=0.2, end=(0.2, 0.8), epochs=4), False),
    ],
)
def test_whether_counts_are_equal_is_what_a_masker_says(masker, equal):
    built = MODELS.build(masker)
    assert built.equal_counts is equal
    attention = torch.rand(8, 2, 64, generator=torch.Generator().manual_seed(0))
    context = MaskContext(torch.zeros(8, 3, 1, 1), (8, 8), scores=attention)
    same = []
    for iteration in range(20):
        built.set_progress(Progress(iteration, 20, 5, 1, iteration))
        counts = built(context).flatten(1).sum(1)
        same.append(bool((counts == counts[0]).all()))
    assert all(same) is equal
