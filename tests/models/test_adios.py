"""ADIOS: both players of a step against their formulas, masks that show what they hide, what does not fit."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import Tensor
from torch.nn import functional as F

from mstkit.errors import UsageError
from mstkit.models import Pretrainer
from mstkit.models.objectives.adversarial_masking import reversed_gradient, simclr
from mstkit.models.occlusion_unet import OcclusionUNet
from mstkit.registry import MODELS
from mstkit.structures import Progress
from tests.models.builders import SMALL_BACKBONES, VIT, gradient_of, total, views
from tests.models.mim_models import build
from tests.models.parity import check_gradients, in_float64
from tests.models.plain_adios import adios_losses, nt_xent

UNET = dict(masks=3, channels=8, blocks=3, bottleneck=8)
SMALL: dict[str, Any] = dict(occlusion=UNET, hidden_dim=24, out_dim=16)


def adios(**parts: Any) -> Pretrainer:
    return build('ADIOS', **{**SMALL, **parts})


def test_both_players_of_a_step_are_those_of_their_formulas():
    """One backward pass gives the encoder the loss with fixed masks, and the masks the loss against a fixed encoder."""
    model, inputs = adios(sparsity=0.7).double(), [view.double() for view in views(batch=3, local=0)]
    loss = model.loss(inputs)['loss_adversarial']
    loss.backward()
    weights = in_float64(model)
    trained = {name: one for name, one in weights.items() if one.requires_grad}
    whole, occluded = inputs
    encoder, occlusion, penalty = adios_losses(whole, occluded, weights, side=8, heads=3, temperature=0.2, sparsity=0.7)
    assert loss.item() == pytest.approx((encoder + 0.7 * penalty).item(), rel=1e-5)
    assert model.last_statistics()['mask_penalty'].item() == pytest.approx(penalty.item(), rel=1e-5)
    hides = [name for name in trained if '.occlusion.' in name]
    seeing = [name for name in trained if '.occlusion.' not in name]
    for minimized, names in ((encoder, seeing), (occlusion, hides)):
        found = torch.autograd.grad(minimized, [trained[name] for name in names], retain_graph=True)
        for name, gradient in zip(names, found, strict=True):
            trained[name].grad = gradient
    assert hides and seeing
    check_gradients(model, weights)


def test_all_similarities_of_the_images_of_a_pair_count():
    generator = torch.Generator().manual_seed(0)
    made = torch.randn(3, 4, 6, generator=generator, dtype=torch.float64)  # a whole view and two occluded ones
    loss, found = simclr(F.normalize(made, dim=2), 0.5)
    first, *others = [list(one) for one in made]
    expected = torch.stack([nt_xent(first, one, 0.5) for one in others]).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-9) and 0 <= found.item() <= 1
    assert simclr(F.normalize(torch.ones(2, 4, 6), dim=2), 0.5)[0].item() == pytest.approx(math.log(7), rel=1e-5)
    same = F.normalize(made[:1].expand(2, -1, -1), dim=2)
    assert simclr(same, 0.5)[1] == 1


def of_a_rank(rank: int) -> tuple[Tensor, Tensor]:
    """Loss and gradient of one process, whose images are two of four."""
    made = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    own = made[:, 2 * rank : 2 * rank + 2].clone().requires_grad_()
    loss, _ = simclr(F.normalize(own, dim=2), 0.5)
    loss.backward()
    return loss.detach(), gradient_of(own)


def test_two_processes_are_as_one_with_all_images(run_two):
    made = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    loss, _ = simclr(F.normalize(made, dim=2), 0.5)
    loss.backward()
    losses, gradients = zip(*run_two(of_a_rank), strict=True)
    torch.testing.assert_close(torch.stack(losses).mean(), loss.detach())
    # The mean over processes of the gradient with respect to a parameter is half of the sum over images.
    torch.testing.assert_close(torch.cat(gradients, dim=1) / 2, gradient_of(made))


def test_a_reversed_gradient_changes_no_bit_of_the_value():
    x = torch.rand(1000, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.equal(reversed_gradient(x), x)
    (reversed_gradient(x) ** 2).sum().backward()
    torch.testing.assert_close(gradient_of(x), -2 * x.detach())


@pytest.mark.parametrize('backbone', SMALL_BACKBONES)
def test_the_two_networks_pull_in_opposite_directions(backbone):
    """A small step of the encoder alone makes the contrast smaller, one of the occlusion network alone larger."""
    parts = dict(backbone=SMALL_BACKBONES[backbone], sparsity=0.0)
    inputs = views(backbone, batch=4, local=0)
    changes = {}
    for player in ('encoder', 'occlusion'):
        model = adios(**parts)
        model.loss(inputs)['loss_adversarial'].backward()
        before = model.last_statistics()['contrast'].item()
        moved = [p for name, p in model.named_parameters() if ('.occlusion.' in name) == (player == 'occlusion')]
        length = torch.stack([gradient_of(p).norm() for p in moved]).norm()
        with torch.no_grad():
            for parameter in moved:
                parameter -= 0.01 / length * gradient_of(parameter)
        model.loss(inputs)
        changes[player] = model.last_statistics()['contrast'].item() - before
    assert changes['encoder'] < 0 < changes['occlusion'], changes


def test_the_penalty_spreads_the_masks_alone():
    """It leaves encoder and projector without a gradient, and a step along it brings the shares to those of equals."""
    model = adios()
    with torch.no_grad():
        model.objectives.adversarial.occlusion.to_masks.bias.copy_(torch.tensor([4.0, 0.0, 0.0]))
    inputs, penalties = views(batch=4, local=0), []
    optimizer = torch.optim.SGD(model.objectives.adversarial.occlusion.parameters(), lr=0.02)
    for _ in range(20):
        masks = model.objectives.adversarial.masks(inputs[1])
        penalty = (1 / torch.sin(math.pi * masks.mean(dim=(2, 3)))).mean()
        model.loss(inputs)
        assert model.last_statistics()['mask_penalty'].item() == pytest.approx(penalty.item(), rel=1e-4)
        penalties.append(penalty.item())
        optimizer.zero_grad()
        penalty.backward()
        optimizer.step()
    assert penalties[-1] < 0.8 * penalties[0]
    assert 1 / math.sin(math.pi / 3) - 1e-6 <= penalties[-1], 'equal shares have the least'


def test_a_mask_of_everything_leaves_finite_numbers():
    model = adios()
    with torch.no_grad():
        model.objectives.adversarial.occlusion.to_masks.bias.copy_(torch.tensor([200.0, 0.0, 0.0]))
    losses = model.loss(views(batch=2, local=0))
    total(losses).backward()
    assert model.last_statistics()['mask_penalty'] > 1e3 and torch.isfinite(total(losses))
    assert all(torch.isfinite(gradient_of(p)).all() for p in model.parameters() if p.requires_grad)


def encoded_by(model: Pretrainer, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """A list that gets every batch of images that the student encodes."""
    seen: list[Tensor] = []
    forward = model.backbone.forward_tokens

    def noted(images: Tensor, *arguments: Any, **named: Any) -> Any:
        seen.append(images)
        return forward(images, *arguments, **named)

    monkeypatch.setattr(model.backbone, 'forward_tokens', noted)
    return seen


@pytest.mark.parametrize(('single', 'passes'), [(False, 3), (True, 1)])
def test_what_the_student_encodes(monkeypatch, single, passes):
    """The first view whole, the second under each mask or under one that is drawn; nothing that nobody reads."""
    model, inputs = adios(single=single), views(batch=4, local=0)
    seen = encoded_by(model, monkeypatch)
    model.loss(inputs)
    left, whole = seen
    assert torch.equal(whole, inputs[0])
    masks = model.objectives.adversarial.masks(inputs[1])
    torch.testing.assert_close(masks.sum(dim=1), torch.ones(4, 32, 32))
    occluded = inputs[1] * (1 - masks.transpose(0, 1)[:, :, None])  # (N, B, 3, H, W)
    left = left.unflatten(0, (passes, 4))
    if single:
        errors = (left - occluded).abs().amax(dim=(2, 3, 4))
        assert (errors.amin(dim=0) < 1e-6).all() and (errors.amax(dim=0) > 1e-3).all()
    else:
        torch.testing.assert_close(left, occluded)
    shares = [model.last_statistics()[f'mask_share_{n}'].item() for n in (1, 2, 3)]
    assert shares == pytest.approx(masks.mean(dim=(0, 2, 3)).tolist(), rel=1e-5) and sum(shares) == pytest.approx(1)
    confidence = model.last_statistics()['mask_confidence'].item()
    assert confidence == pytest.approx(masks.amax(dim=1).mean().item(), rel=1e-5) and 1 / 3 < confidence < 1


def test_a_masker_and_other_objectives_share_the_whole_views(monkeypatch):
    """The features of the first view are those that the others read, with its hidden patches."""
    parts = dict(masker=dict(type='RandomMasker', ratio=0.5), objectives=dict(koleo=dict(type='KoLeo')))
    model, inputs = adios(**parts), views(batch=3, local=0)
    seen = encoded_by(model, monkeypatch)
    losses = model.loss(inputs)
    assert sorted(map(len, seen)) == [6, 9] and set(losses) == {'loss_adversarial', 'loss_koleo'}
    total(losses).backward()
    assert model.mask_token is not None and gradient_of(model.mask_token).abs().sum() > 0


def test_the_occlusion_network_has_a_learning_rate_of_its_own():
    model = adios(occlusion=dict(UNET, lr_mult=0.25))
    config = dict(optimizer=dict(type='AdamW', lr=1e-3), constructor='TrainableOptimWrapperConstructor')
    wrapper = build_optim_wrapper(model, config)
    rates = {id(p): group['lr'] for group in wrapper.optimizer.param_groups for p in group['params']}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert rates[id(parameter)] == pytest.approx(2.5e-4 if '.occlusion.' in name else 1e-3), name


def test_parts_are_those_of_its_code():
    """Of the SimCLR command for a ViT-Tiny; a U-Net of 6 resolutions has 16, 16, 16, 32, 32, 32 channels."""
    objective = MODELS.build(dict(type='ADIOS', backbone=VIT)).objectives.adversarial
    assert [block[0].out_channels for block in objective.occlusion.down] == [16, 16, 16, 32, 32, 32]
    assert [block[0].out_channels for block in objective.occlusion.up] == [32, 32, 16, 16, 16, 16]
    assert [block[0].in_channels for block in objective.occlusion.up] == [64, 64, 64, 32, 32, 32]
    assert objective.occlusion.masks == 6 and objective.occlusion.whole[1].in_features == 32 * 7 * 7
    assert [layer.weight.shape for layer in objective.projector[::2]] == [(2048, 48), (128, 2048)]
    assert (objective.temperature, objective.sparsity, objective.occlusion.lr_mult) == (0.2, 0.89, 0.3)


@pytest.mark.parametrize('size', [(32, 32), (40, 24), (33, 47), (64, 64)])
def test_the_occlusion_network_takes_images_of_any_size(size):
    network = OcclusionUNet(masks=2, channels=8, blocks=4, bottleneck=3)
    assert network(torch.randn(2, 3, *size)).shape == (2, 2, *size)


def test_a_panel_shows_what_each_mask_leaves():
    model, (image, _) = adios(), views(batch=2, local=0)
    panel = model.panel(image)
    masks = model.objectives.adversarial.masks(image).detach()
    shares = masks.mean(dim=(0, 2, 3))
    assert list(panel.further) == [f'mask {n + 1} ({100 * share:.0f} %)' for n, share in enumerate(shares)]
    for n, shown in enumerate(panel.further.values()):
        torch.testing.assert_close(shown, image * (1 - masks[:, n : n + 1]))


@pytest.mark.parametrize(
    ('parts', 'sizes', 'message'),
    [
        ({}, [32], r'ADIOS compares a whole view with an occluded one .*set model\.global_views=2 and global_crops'),
        ({}, [32, 16], r'global_views is 2, and the views are of 32, 16 px'),
        ({}, [32, 32, 16], r'ADIOS trains on 2 views of an image \(model\.global_views\)'),
        (dict(occlusion=dict(channels=12)), [], r'OcclusionUNet\.channels is 12'),
        (dict(occlusion=dict(masks=1)), [], r'OcclusionUNet\.masks is 1'),
        (dict(occlusion=dict(type='DINONeck')), [], 'DINONeck is not an occlusion network; .*: OcclusionUNet'),
        (dict(temperature=0.0), [], r'AdversarialMasking\.temperature is 0'),
        (dict(sparsity=-1), [], r'AdversarialMasking\.sparsity is -1'),
        (dict(loss_weight_adversarial=-1), [], r'ADIOS\.loss_weight_adversarial is -1'),
    ],
)
def test_mistakes(parts, sizes, message):
    with pytest.raises(UsageError, match=message):
        MODELS.build(dict(type='ADIOS', backbone=VIT, **parts)).check_view_count(sizes)


def test_one_view_and_few_pixels_and_one_image_are_refused():
    one = dict(objectives=dict(adversarial=dict(type='AdversarialMasking', **SMALL)))
    with pytest.raises(UsageError, match=r'global_views is 1, and the views are of 32 px'):
        build('MAE', **one).check_view_count([32])
    model = MODELS.build(dict(type='ADIOS', backbone=VIT))
    model.check_views(32)
    with pytest.raises(UsageError, match=r'halves a view 5 times, which 24 px cannot be: give fewer occlusion\.blocks'):
        model.check_views(24)
    with pytest.raises(UsageError, match=r'only 1: set train_dataloader\.batch_size to 2 or more'):
        model.check_batch(1)


def test_it_goes_into_mae():
    """Whose encoder sees the visible patches of the first view, and the occluded second view as a whole."""
    model = build('MAE', global_views=2, objectives=dict(adversarial=dict(type='AdversarialMasking', **SMALL)))
    model.set_progress(Progress(0, 10, 5))
    losses = model.loss(views(batch=3, local=0))
    total(losses).backward()
    assert set(losses) == {'loss_predict', 'loss_adversarial'}
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
