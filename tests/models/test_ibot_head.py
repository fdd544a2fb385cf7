"""iBOT's patch loss against a plain loop, its dense form and lightly's; its center."""

from __future__ import annotations

import pytest
import torch
from lightly.loss import IBOTPatchLoss

from mstkit.models import IBOTHead
from mstkit.models.heads import patch_weights
from mstkit.structures import Progress
from tests.models.builders import gradient_of

CLASSES = 11


def weights_of(hidden: torch.Tensor) -> torch.Tensor:
    return patch_weights(hidden, hidden.flatten().nonzero().squeeze(1))


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return 4 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def head(**options) -> IBOTHead:
    built = IBOTHead(out_dim=CLASSES, **options)
    built.center.normal_(generator=torch.Generator().manual_seed(9))
    return built


def some_hidden(images: int = 6, length: int = 9) -> torch.Tensor:
    """One image has no hidden patch, one has all of them."""
    hidden = torch.rand(images, length, generator=torch.Generator().manual_seed(3)) < 0.4
    hidden[1], hidden[2] = False, True
    return hidden


def loop_loss(student, teacher, hidden, center, student_temp=0.1, teacher_temp=0.04):
    """Image by image and patch by patch, as iBOT writes it."""
    per_image = []
    for s, t, h in zip(student, teacher, hidden, strict=True):
        terms = []
        for patch in range(len(h)):
            if h[patch]:
                p = ((t[patch] - center[0]) / teacher_temp).softmax(-1)
                terms.append(-(p * (s[patch] / student_temp).log_softmax(-1)).sum())
        per_image.append(sum(terms, torch.zeros(())) / max(1, len(terms)))
    return torch.stack(per_image).mean()


def dense_loss(student, teacher, hidden, center):
    """All patches through the loss, those not hidden multiplied by zero."""
    p = ((teacher - center) / 0.04).softmax(-1)
    cross = -(p * (student / 0.1).log_softmax(-1)).sum(-1)
    return ((cross * hidden).sum(-1) / hidden.sum(-1).clamp_min(1)).mean()


def test_gathered_form_equals_the_loop_and_the_dense_form():
    """Invariant 7, an image without a hidden patch included; the gradient too."""
    hidden, built = some_hidden(), head()
    student, teacher = draw(6, 9, CLASSES).requires_grad_(), draw(6, 9, CLASSES, seed=1)
    loss = built.loss(student[hidden], teacher[hidden], weights_of(hidden))
    (got,) = torch.autograd.grad(loss, student)
    for reference in (loop_loss, dense_loss):
        expected = reference(student, teacher, hidden, built.center)
        torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(got, torch.autograd.grad(expected, student)[0], rtol=1e-5, atol=1e-6)


def test_loss_equals_lightlys():
    reference = IBOTPatchLoss(output_dim=CLASSES, teacher_temp=0.07)
    built = IBOTHead(CLASSES, teacher_temp=0.07)
    # lightly divides by all images as well, and normalizes each image by its own count.
    hidden = some_hidden(8, 16)
    student, teacher = draw(8, 16, CLASSES), draw(8, 16, CLASSES, seed=1)
    expected = reference(teacher[hidden], student[hidden], mask=hidden.view(8, 4, 4))
    torch.testing.assert_close(
        built.loss(student[hidden], teacher[hidden], weights_of(hidden)),
        expected,
    )


def test_nothing_hidden_is_a_loss_of_zero_that_can_be_followed_back():
    hidden = torch.zeros(4, 9, dtype=torch.bool)
    student = draw(4, 9, CLASSES).requires_grad_()
    built = head()
    loss = built.loss(student[hidden], draw(4, 9, CLASSES)[hidden], weights_of(hidden))
    loss.backward()
    assert loss.item() == 0.0
    assert not gradient_of(student).any()
    assert all(torch.isfinite(value) for value in built.statistics.values())


def test_weights_of_the_masked_images_add_up_to_their_share():
    hidden = some_hidden()
    weights = weights_of(hidden)
    assert len(weights) == hidden.sum()
    torch.testing.assert_close(weights.sum(), hidden.any(1).float().mean())
    torch.testing.assert_close(weights[: int(hidden[0].sum())].sum(), torch.tensor(1 / 6))


def test_statistics_are_means_over_masked_images():
    hidden, built = some_hidden(), head()
    student, teacher = draw(6, 9, CLASSES), draw(6, 9, CLASSES, seed=1)
    loss = built.loss(student[hidden], teacher[hidden], weights_of(hidden))
    total = built.statistics['patch_entropy'] + built.statistics['patch_kl']
    torch.testing.assert_close(total * hidden.any(1).float().mean(), loss)


def test_temperature_waits_for_the_epoch_in_which_masking_starts():
    built = IBOTHead(
        CLASSES, teacher_temp=0.07, warmup_teacher_temp=0.04, warmup_teacher_temp_epochs=30, start_epoch=50
    )
    assert [built.teacher_temp_at(epoch) for epoch in (0, 49, 50)] == pytest.approx([0.04] * 3)
    assert built.teacher_temp_at(51) == pytest.approx(0.04 + 0.03 / 29)
    built.set_progress(Progress(step=800, total_steps=1000, steps_per_epoch=10))
    assert built.teacher_temp == pytest.approx(0.07)
