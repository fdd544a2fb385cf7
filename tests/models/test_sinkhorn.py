"""Sinkhorn centering against plain loops and lightly's, over two processes, and in a step of iBOT."""

from __future__ import annotations

import math

import pytest
import torch
from lightly.loss.swav_loss import sinkhorn
from torch import Tensor

from mstkit.errors import UsageError
from mstkit.models import DINOHead, IBOTHead, Pretrainer, Step
from mstkit.models.heads import patch_weights, sinkhorn_log_assignments
from mstkit.registry import MODELS
from mstkit.structures import Progress
from tests.models.builders import NECK, VIT, gradient_of, total, views

CLASSES = 7


def logits(rows: int, seed: int = 0, scale: float = 0.3) -> Tensor:
    return scale * torch.randn(rows, CLASSES, generator=torch.Generator().manual_seed(seed))


def plain_sinkhorn(scores: Tensor, temperature: float, iterations: int = 3) -> Tensor:
    """SwAV's listing in double precision, entry by entry; the matrix is prototypes x samples."""
    q = [[math.exp(row[k] / temperature) for row in scores.double().tolist()] for k in range(CLASSES)]
    samples = len(scores)
    whole = sum(map(sum, q))
    q = [[value / whole for value in row] for row in q]
    for _ in range(iterations):
        q = [[value / sum(row) / CLASSES for value in row] for row in q]
        columns = [sum(q[k][b] for k in range(CLASSES)) for b in range(samples)]
        q = [[row[b] / columns[b] / samples for b in range(samples)] for row in q]
    return torch.tensor([[q[k][b] * samples for k in range(CLASSES)] for b in range(samples)])


@pytest.mark.parametrize('iterations', [1, 3, 10])
def test_assignments_are_those_of_a_plain_loop_and_of_lightly(iterations):
    scores = logits(13)
    found = sinkhorn_log_assignments(scores / 0.06, iterations).exp()
    torch.testing.assert_close(found, plain_sinkhorn(scores, 0.06, iterations), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found, sinkhorn(scores, iterations, 0.06), rtol=1e-4, atol=1e-6)


def test_all_prototypes_are_used_alike():
    """After many iterations both totals hold: one for each sample, M / K for each prototype."""
    found = sinkhorn_log_assignments(logits(14) / 0.1 + 5 * torch.arange(CLASSES), 100).exp()
    torch.testing.assert_close(found.sum(dim=1), torch.ones(14))
    torch.testing.assert_close(found.sum(dim=0), torch.full((CLASSES,), 2.0), rtol=1e-3, atol=1e-3)


def test_scores_of_any_size_give_finite_assignments():
    for scale in (0.0, 1e-30, 1e3, 1e6):
        found = sinkhorn_log_assignments(logits(5, scale=scale), 3)
        assert torch.isfinite(found).all()
        torch.testing.assert_close(found.exp().sum(dim=1), torch.ones(5))
    assert sinkhorn_log_assignments(torch.zeros(0, CLASSES)).shape == (0, CLASSES)


def plain_dino(student: Tensor, teacher: Tensor, views: int) -> Tensor:
    """All teacher views are assigned together, as in DINOv2."""
    assigned = plain_sinkhorn(teacher, 0.04).chunk(2)
    terms = [
        -(p * (s / 0.1).log_softmax(dim=-1)).sum(dim=-1).mean()
        for i, p in enumerate(assigned)
        for j, s in enumerate(student.chunk(views))
        if i != j
    ]
    return torch.stack(terms).mean()


def test_dino_loss():
    built = DINOHead(CLASSES, centering='sinkhorn')
    student, teacher = logits(4 * 5).requires_grad_(), logits(2 * 5, seed=1)
    loss = built.loss(student, teacher, 4)
    expected = plain_dino(student, teacher, 4)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    for got, wanted in zip(torch.autograd.grad(loss, student), torch.autograd.grad(expected, student), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)
    both = built.statistics['teacher_entropy'] + built.statistics['kl']
    torch.testing.assert_close(both, loss.detach())


def hidden_of(images: int = 6, length: int = 9) -> Tensor:
    hidden = torch.rand(images, length, generator=torch.Generator().manual_seed(3)) < 0.4
    hidden[1], hidden[4] = False, True
    return hidden


def test_ibot_loss():
    """Every hidden patch is one sample of the assignment, whatever the weight of its image in the loss."""
    hidden = hidden_of()
    student, teacher = logits(54).view(6, 9, -1), logits(54, seed=1).view(6, 9, -1)
    weights = patch_weights(hidden, hidden.flatten().nonzero().squeeze(1))
    loss = IBOTHead(CLASSES, centering='sinkhorn').loss(student[hidden], teacher[hidden], weights)
    assigned = iter(plain_sinkhorn(teacher[hidden], 0.04))
    per_image = []
    for image, row in enumerate(hidden):
        terms = [
            -(next(assigned) * (student[image, patch] / 0.1).log_softmax(-1)).sum() for patch in row.nonzero()[:, 0]
        ]
        per_image.append(torch.stack(terms).mean() if terms else torch.zeros(()))
    torch.testing.assert_close(loss, torch.stack(per_image).mean(), rtol=1e-5, atol=1e-5)


def test_nothing_hidden_is_a_loss_of_zero():
    student = torch.zeros(0, CLASSES, requires_grad=True)
    loss = IBOTHead(CLASSES, centering='sinkhorn').loss(student, torch.zeros(0, CLASSES), torch.zeros(0))
    loss.backward()
    assert loss.item() == 0 and gradient_of(student).shape == (0, CLASSES)


def test_there_is_no_center():
    built = DINOHead(CLASSES, centering='sinkhorn').train()
    built.loss(logits(10), logits(10), 2)
    built.step()
    assert built.center is None and not built.state_dict()
    assert set(DINOHead(CLASSES).state_dict()) == {'center'}
    with pytest.raises(RuntimeError, match='center'):
        built.load_state_dict(DINOHead(CLASSES).state_dict())


def test_mistakes():
    with pytest.raises(UsageError, match=r"DINOHead\.centering is 'sinkhron': give 'mean' or 'sinkhorn'"):
        DINOHead(CLASSES, centering='sinkhron')
    with pytest.raises(UsageError, match=r'IBOTHead\.sinkhorn_iterations is 0'):
        IBOTHead(CLASSES, centering='sinkhorn', sinkhorn_iterations=0)


def shared(rank: int, world: int, sizes: tuple[int, ...]) -> Tensor:
    """The assignments of a rank that has so many of all samples."""
    first = sum(sizes[:rank])
    return sinkhorn_log_assignments(logits(sum(sizes))[first : first + sizes[rank]] / 0.05)


@pytest.mark.parametrize('sizes', [(6, 6), (9, 2), (0, 5)])
def test_two_processes_equal_one(run_two, sizes):
    both = torch.cat(run_two(shared, 2, sizes))
    torch.testing.assert_close(both, sinkhorn_log_assignments(logits(sum(sizes)) / 0.05), rtol=1e-5, atol=1e-5)


def ibot() -> Pretrainer:
    torch.manual_seed(5)
    parts = dict(
        masker=dict(type='BlockMasker', image_prob=1.0), data_preprocessor=dict(mean=[127.5] * 3, std=[64.0] * 3)
    )
    heads = dict(head=dict(centering='sinkhorn'), patch_head=dict(type='IBOTHead', centering='sinkhorn'))
    built = MODELS.build(dict(type='IBOT', backbone=VIT, neck=NECK, **heads, **parts))
    built.init_weights()
    return built.train()


def dino_losses(rank: int, world: int) -> list[float]:
    """DINO's loss, which does not depend on the masks, of this rank's share."""
    torch.manual_seed(5)
    built = MODELS.build(dict(type='DINO', backbone=VIT, neck=NECK, head=dict(centering='sinkhorn')))
    built.init_weights()
    built.train()
    found = []
    for step in range(2):
        built.set_progress(Progress(step, 10, 5, rank_seed=rank, iteration=step))
        losses = built.loss([view[rank::world] for view in views(batch=4, local=1, seed=step)])
        found.append(built.parse_losses(losses)[1]['loss'].item())
        built.after_step()
    return found


def test_a_method_in_two_processes_has_the_loss_of_one(run_two):
    expected = dino_losses(0, 1)
    for found in run_two(dino_losses, 2):
        assert found == pytest.approx(expected, rel=1e-5)


@torch.no_grad()
def plain_patch_loss(built: Pretrainer) -> float:
    """Of all patches' logits, of which the hidden ones are taken."""
    built.set_progress(Progress(3, 10, 5, rank_seed=1, iteration=3))
    step = Step(built, views(batch=3, local=1))
    assert step.mask is not None
    hidden = step.mask.flatten(1)
    student, teacher = (
        neck(tokens.flatten(0, 1)).unflatten(0, hidden.shape)
        for neck, tokens in (
            (built.objectives['ce'].neck, step.student.patch_tokens),
            (step.teacher_part('ce', 'neck'), step.teacher.patch_tokens),
        )
    )
    assigned = sinkhorn(teacher[hidden], 3, 0.04)
    errors = -(assigned * (student[hidden] / 0.1).log_softmax(dim=-1)).sum(dim=-1)
    per_image = torch.zeros(hidden.shape).masked_scatter(hidden, errors).sum(dim=1) / hidden.sum(dim=1).clamp_min(1)
    return per_image.mean().item()


def test_a_step_of_ibot():
    built = ibot()
    built.set_progress(Progress(3, 10, 5, rank_seed=1, iteration=3))
    losses = built.loss(views(batch=3, local=1))
    assert set(losses) == {'loss_ce', 'loss_patch'}
    assert losses['loss_patch'].item() == pytest.approx(plain_patch_loss(built), rel=1e-4)
    total(losses).backward()
    built.after_step()
    assert all(torch.isfinite(p.grad).all() for p in built.parameters() if p.grad is not None)
    assert not [key for key in built.state_dict() if 'center' in key]
