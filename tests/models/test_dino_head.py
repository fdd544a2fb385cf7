"""DINO's loss against a plain double loop and against lightly's; its center; its temperature."""

from __future__ import annotations

import math

import pytest
import torch
from lightly.loss import DINOLoss
from mmengine import dist

from mstkit.errors import UsageError
from mstkit.models import DINOHead
from mstkit.structures import Progress


def logits(views: int, batch: int = 5, classes: int = 11, seed: int = 0) -> torch.Tensor:
    return 4 * torch.randn(views * batch, classes, generator=torch.Generator().manual_seed(seed))


def head(**options) -> DINOHead:
    built = DINOHead(out_dim=11, **options)
    built.center.normal_(generator=torch.Generator().manual_seed(9))
    return built


def loop_loss(student, teacher, center, views, student_temp=0.1, teacher_temp=0.04):
    """MST eq. 2 as it is printed, pair by pair, as a mean."""
    students, teachers = student.chunk(views), teacher.chunk(2)
    terms = []
    for i, t in enumerate(teachers):
        for j, s in enumerate(students):
            if i == j:
                continue
            p = ((t - center) / teacher_temp).softmax(-1)
            terms.append(
                torch.stack([-(p[b] * (s[b] / student_temp).log_softmax(-1)).sum() for b in range(len(s))]).mean()
            )
    return torch.stack(terms).mean()


@pytest.mark.parametrize('views', [2, 3, 10])
def test_loss_and_gradient_equal_the_double_loop(views):
    built = head()
    student = logits(views).requires_grad_()
    teacher = logits(2, seed=1)
    expected = loop_loss(student, teacher, built.center, views)
    (wanted,) = torch.autograd.grad(expected, student)
    loss = built.loss(student, teacher, views)
    (got,) = torch.autograd.grad(loss, student)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(got, wanted)


def test_loss_and_center_equal_lightlys():
    reference = DINOLoss(output_dim=11, warmup_teacher_temp=0.04, teacher_temp=0.07, warmup_teacher_temp_epochs=30)
    built = DINOHead(out_dim=11, warmup_teacher_temp=0.04, teacher_temp=0.07, warmup_teacher_temp_epochs=30)
    for step, epoch in enumerate((0, 0, 4, 29, 35)):
        student, teacher = logits(6, seed=step), logits(2, seed=100 + step)
        built.set_progress(Progress(epoch * 10, 1000, 10))
        loss = built.loss(student, teacher, 6)
        expected = reference(list(teacher.chunk(2)), list(student.chunk(6)), epoch=epoch)
        built.step()
        torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(built.center, reference.center.view(1, -1))


def test_temperature_rises_once_an_epoch_like_a_linspace():
    built = DINOHead(11, teacher_temp=0.07, warmup_teacher_temp=0.04, warmup_teacher_temp_epochs=30)
    expected = torch.linspace(0.04, 0.07, 30, dtype=torch.float64).tolist() + [0.07] * 3
    assert [built.teacher_temp_at(epoch) for epoch in range(33)] == pytest.approx(expected)
    built.set_progress(Progress(step=57, total_steps=1000, steps_per_epoch=10))
    assert built.teacher_temp == pytest.approx(expected[5])
    assert DINOHead(11, teacher_temp=0.04).teacher_temp_at(0) == 0.04


def test_half_precision_logits_are_computed_in_float32():
    student, teacher = logits(4).bfloat16(), logits(2, seed=1).bfloat16()
    loss = head().loss(student, teacher, 4)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, head().loss(student.float(), teacher.float(), 4))


def test_no_gradient_reaches_the_teacher():
    student, teacher = logits(3).requires_grad_(), logits(2, seed=1).requires_grad_()
    head().loss(student, teacher, 3).backward()
    assert student.grad is not None
    assert teacher.grad is None


def test_center_follows_once_per_step_over_all_that_was_accumulated():
    whole, parts = head(), head()
    teacher = logits(2, batch=6, seed=3)
    student = logits(2, batch=6, seed=4)
    before = whole.center.clone()
    whole.loss(student, teacher, 2)
    whole.step()
    torch.testing.assert_close(whole.center, 0.9 * before + 0.1 * teacher.mean(0, keepdim=True))
    for t, s in zip(teacher.view(2, 6, 11).split(2, 1), student.view(2, 6, 11).split(2, 1), strict=True):
        parts.loss(s.reshape(-1, 11), t.reshape(-1, 11), 2)
    parts.step()
    torch.testing.assert_close(parts.center, whole.center)
    parts.step()
    torch.testing.assert_close(parts.center, whole.center, msg='nothing new was seen')


def test_evaluation_leaves_the_center_alone():
    built = head().eval()
    before = built.center.clone()
    built.loss(logits(2), logits(2, seed=1), 2)
    built.step()
    assert torch.equal(built.center, before)


def _rank(rank: int, world: int) -> torch.Tensor:
    built = head()
    teacher = logits(2, batch=6, seed=3).view(2, 6, 11)[:, rank::world].reshape(-1, 11)
    built.loss(teacher, teacher, 2)
    built.step()
    assert dist.get_world_size() == world
    return built.center


def test_center_of_two_processes_equals_one(run_two):
    single = head()
    single.loss(logits(2, batch=6, seed=3), logits(2, batch=6, seed=3), 2)
    single.step()
    for center in run_two(_rank, 2):
        torch.testing.assert_close(center, single.center)


def test_statistics_say_what_the_loss_is_made_of():
    built = head()
    loss = built.loss(logits(3), logits(2, seed=1), 3)
    statistics = built.statistics
    torch.testing.assert_close(statistics['teacher_entropy'] + statistics['kl'], loss)
    assert statistics['kl'] > 0
    uniform = DINOHead(11)
    uniform.loss(torch.zeros(6, 11), torch.zeros(4, 11), 3)
    assert uniform.statistics['teacher_entropy'].item() == pytest.approx(math.log(11))
    assert uniform.uniform_loss == pytest.approx(math.log(11))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(student_temp=0), 'student_temp'),
        (dict(teacher_temp=-0.1), r'-0\.1'),
        (dict(center_momentum=1.0), 'center_momentum'),
        (dict(warmup_teacher_temp_epochs=-1), '-1'),
    ],
)
def test_mistakes_are_told(options, message):
    with pytest.raises(UsageError, match=message):
        DINOHead(11, **options)
    with pytest.raises(UsageError, match='two views'):
        DINOHead(11).loss(logits(1), logits(1), 1, 1)
