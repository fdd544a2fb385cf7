"""NT-Xent of masked views: against plain loops and lightly's loss, over two processes, in MAE; what does not fit."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mstkit.errors import UsageError
from mstkit.models import Pretrainer
from mstkit.models.objectives.view_contrast import nt_xent
from mstkit.models.step import Step
from tests.models.builders import gradient_of, total, views
from tests.models.mim_models import DECODER, build
from tests.models.moby import mlp


def projections(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, 5, generator=generator), dim=1)


def plain(rows: Tensor, count: int, temperature: float, decoupled: bool = False) -> float:
    """Equation 1 of SimCLR by loops, or 6 of DCL, the mean over the pairs of views of an image."""
    vectors, images = rows.double().tolist(), len(rows) // count
    found = []
    for i, one in enumerate(vectors):
        weights = [math.exp(sum(a * b for a, b in zip(one, other, strict=True)) / temperature) for other in vectors]
        same = [j for j in range(len(vectors)) if j != i and j % images == i % images]
        below = sum(weights) - weights[i] - (sum(weights[j] for j in same) if decoupled else 0)
        found += [-math.log(weights[j] / below) for j in same]
    return sum(found) / len(found)


@pytest.mark.parametrize('count', [2, 3])
@pytest.mark.parametrize('temperature', [0.1, 0.5])
@pytest.mark.parametrize('decoupled', [False, True])
def test_the_loss_is_its_formula(count, temperature, decoupled):
    rows = projections(count * 4)
    expected = plain(rows, count, temperature, decoupled)
    assert nt_xent(rows, count, temperature, decoupled)[0].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(('name', 'decoupled'), [('NTXentLoss', False), ('DCLLoss', True)])
def test_of_two_views_it_is_that_of_lightly(name, decoupled):
    loss = getattr(pytest.importorskip('lightly.loss'), name)(temperature=0.2)
    rows = projections(12)
    assert nt_xent(rows, 2, 0.2, decoupled)[0].item() == pytest.approx(loss(*rows.chunk(2)).item(), rel=1e-5)


def test_neighbors_of_the_same_image_are_counted():
    rows = torch.eye(4).repeat(2, 1)
    assert nt_xent(rows, 2, 0.1)[1] == 1
    rows[5] = rows[0]  # the second view of image 1 looks like image 0
    assert nt_xent(rows, 2, 0.1)[1] == pytest.approx(6 / 8)


def shared(rank: int, sizes: tuple[int, int], decoupled: bool) -> tuple[Tensor, Tensor]:
    """The loss and its gradient of this rank's images: of two views of six images, (2, 6, D)."""
    first = sum(sizes[:rank])
    leaf = projections(12).unflatten(0, (2, 6))[:, first : first + sizes[rank]].clone().requires_grad_()
    loss, _ = nt_xent(leaf.flatten(0, 1), 2, 0.2, decoupled)
    loss.backward()
    return loss.detach(), gradient_of(leaf)


@pytest.mark.parametrize('decoupled', [False, True])
def test_two_processes_equal_one(run_two, decoupled):
    """Gradients too: parallel training takes the mean over processes."""
    loss, gradient = shared(0, (6, 0), decoupled)
    found = run_two(shared, (3, 3), decoupled)
    torch.testing.assert_close(torch.stack([value for value, _ in found]).mean(), loss, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(torch.cat([one for _, one in found], dim=1) / 2, gradient, rtol=1e-4, atol=1e-6)


def contrasted(**parts) -> Pretrainer:
    objectives = dict(contrast=dict(type='ViewContrast', neck=mlp()))
    return build('MAE', **{**dict(decoder=DECODER, objectives=objectives, global_views=2), **parts})


@pytest.mark.parametrize('decoupled', [False, True])
def test_in_mae_it_reads_what_the_visible_patches_gave(decoupled):
    model = contrasted(objectives=dict(contrast=dict(type='ViewContrast', neck=mlp(), decoupled=decoupled)))
    inputs = views(local=0, batch=4)
    losses = model.loss(inputs)
    assert set(losses) == {'loss_predict', 'loss_contrast'} and model.teacher is None
    step = Step(model, inputs)
    (projected,) = model.objectives['contrast'].neck((step.student_global,))
    own = F.normalize(projected.float(), dim=1)
    loss = model.objectives['contrast'](step).item()  # of this step, whose masks are drawn anew
    assert loss == pytest.approx(plain(own.detach(), 2, 0.1, decoupled), rel=1e-5)
    total(losses).backward()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)
    assert 0 <= model.objectives['contrast'].statistics['contrast_top1'] <= 1


def test_masked_copies_are_views_too_and_one_view_is_refused():
    [view, _] = views(local=0, batch=4)
    losses = contrasted(global_views=1, masks_per_image=3).loss([view])
    assert torch.isfinite(losses['loss_contrast'])
    alone = contrasted(global_views=1)
    with pytest.raises(UsageError, match=r'set model\.global_views=2 .* or model\.masks_per_image=2'):
        alone.loss([view])
    with pytest.raises(UsageError, match=r'there is one: set --cfg-options train_dataloader\.batch_size=2'):
        alone.check_batch(1)
