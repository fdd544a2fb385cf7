"""One training step of MoBY: what it is made of, what it is shown, what it refuses."""

from __future__ import annotations

import copy

import pytest
import torch

from mstkit.errors import UsageError
from mstkit.registry import MODELS
from mstkit.structures import Progress
from tests.models.builders import SMALL_BACKBONES
from tests.models.moby import STEPS, iterate, mlp, moby, optimizer_of, toy_images
from tests.models.test_methods import NO_MASK, STRATEGIES, masker


@pytest.mark.parametrize('network', SMALL_BACKBONES)
@pytest.mark.parametrize('strategy', STRATEGIES)
def test_every_strategy_on_every_backbone_trains(strategy, network):
    if strategy != NO_MASK and MODELS.build(masker(strategy)).throws:
        with pytest.raises(UsageError, match=f'masker {strategy} throws patches, .* has a token in every place'):
            moby(network, masker=masker(strategy))
        return
    model = moby(network, masker=masker(strategy))
    optimizer = optimizer_of(model)
    for iteration in range(2):
        loss = iterate(model, optimizer, iteration, inputs=toy_images(iteration, network, batch=2))
        assert torch.isfinite(loss)
    model.set_progress(Progress(2, STEPS, 5, iteration=2))
    model.loss(toy_images(2, network, batch=2))['loss_contrast'].backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    assert not any(p.requires_grad or p.grad is not None for p in model.teacher.parameters())
    assert ('hidden_fraction' in model.last_statistics()) == (strategy != NO_MASK)
    assert 'contrast_top1' in model.last_statistics()


def test_loss_is_made_of_its_parts():
    """View by view, each through the batch normalization alone; the predictor is the student's."""
    model = moby()
    inputs = toy_images()
    model.set_progress(Progress(0, STEPS, 5))
    twin = copy.deepcopy(model)
    losses = model.loss(inputs)
    assert set(losses) == {'loss_contrast'}
    queries, keys = [], []
    for view in inputs:
        (projected,) = twin.objectives.contrast.neck((twin.backbone.forward_tokens(view).pooled,))
        queries.append(twin.objectives.contrast.predictor((projected,))[0])
        keys.append(twin.teacher.contrast_neck((twin.teacher.backbone.forward_tokens(view).pooled,))[0])
    expected = twin.objectives.contrast.head.loss(torch.cat(queries), torch.cat(keys))
    torch.testing.assert_close(losses['loss_contrast'], expected)
    torch.testing.assert_close(model.objectives.contrast.head.queue1, twin.objectives.contrast.head.queue1)
    torch.testing.assert_close(model.last_statistics()['contrast'], expected.detach())


def test_the_teacher_sees_whole_views_and_the_student_masked_ones(monkeypatch):
    model = moby(masker=dict(type='RandomMasker', ratio=0.5))
    calls: dict[str, list] = {'student': [], 'teacher': []}
    for name, module in (('student', model.backbone), ('teacher', model.teacher.backbone)):
        real = module.forward_tokens

        def spy(images, mask=None, *args, _name=name, _real=real, **kwargs):
            calls[_name].append((len(images), mask))
            return _real(images, mask, *args, **kwargs)

        monkeypatch.setattr(module, 'forward_tokens', spy)
    model.set_progress(Progress(0, STEPS, 5))
    model.loss(toy_images())
    assert calls['teacher'] == [(8, None)]
    ((images, mask),) = calls['student']
    assert images == 8
    assert mask.shape == (8, 4, 4)
    assert mask.float().mean() == 0.5


def test_training_finds_the_keys_of_a_batch():
    model = moby(head=dict(type='MoBYHead', queue_size=64))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3)
    inputs = toy_images(batch=8)
    first = iterate(model, optimizer, 0, inputs=inputs)
    for iteration in range(1, 8):  # less than the queue holds, so that no key of an image is also in the queue
        last = iterate(model, optimizer, iteration, inputs=inputs)
        model.objectives.contrast.head.pointer.zero_()
    assert last < 0.8 * first


def test_state_dict_and_branches():
    model = moby()
    keys = set(model.state_dict())
    assert {
        'objectives.contrast.head.queue1',
        'objectives.contrast.head.queue2',
        'objectives.contrast.head.pointer',
        'teacher.pending_steps',
    } <= keys
    assert not any(
        key.startswith(('teacher.contrast_predictor', 'teacher.contrast_head', 'mask_token')) for key in keys
    )
    twin = MODELS.build({**SMALL_BACKBONES['vit'], 'type': 'mmpretrain.VisionTransformer'})
    for prefix in ('backbone.', 'teacher.backbone.'):
        state = {k.removeprefix(prefix): v for k, v in model.state_dict().items() if k.startswith(prefix)}
        twin.load_state_dict(state, strict=True)
    assert list(model.branches()) == ['student', 'teacher']
    assert moby(teacher=None).teacher.momentum == 0.99


def test_panel_changes_nothing():
    model = moby(masker=dict(type='AttentionGuidedMasker', num=2, prob=0.5))
    state = copy.deepcopy(model.state_dict())
    panel = model.panel(toy_images()[0])
    assert panel.mask is not None and panel.mask.shape == (4, 4, 4)
    assert panel.reconstruction is None
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, state[key]), key


def test_views_and_batches_are_checked_before_anything_runs():
    model = moby()
    model.check_views(32)
    model.check_batch(6)
    with pytest.raises(UsageError, match='36 px is not divisible by 8'):
        model.check_views(36)
    with pytest.raises(UsageError, match=r'cannot use local ones \(here of 16 px\).*local_crops\.count=0'):
        model.check_views(32, 16)
    with pytest.raises(UsageError, match=r'queue_size 12 .* 8 images .*=8 or 16'):
        model.check_batch(8)


@pytest.mark.parametrize('count', [1, 3])
def test_another_number_of_views_is_refused(count):
    model = moby()
    model.set_progress(Progress(0, STEPS, 5))
    with pytest.raises(
        UsageError, match=r'MoBY compares two global views .*: set global_crops\.count=2 and local_crops\.count=0'
    ):
        model.loss((toy_images() * 2)[:count])


def test_a_forgotten_hook_does_not_pass_in_silence():
    model = moby()
    model.loss(toy_images())
    with pytest.raises(RuntimeError, match='ProgressHook'):
        model.loss(toy_images())


@pytest.mark.parametrize(
    ('parts', 'message'),
    [
        (dict(head=dict(type='MoBYHead', dim=8)), r'neck gives 16 .*, predictor 16, and head\.dim is 8'),
        (dict(predictor={**mlp(), 'out_channels': 8}), r'neck gives 16 .*, predictor 8, and head\.dim is 16'),
        (dict(neck={**mlp(), 'with_avg_pool': True}), r'neck NonLinearNeck does not take .* \(B, 48\).*with_avg_pool='),
        (dict(predictor=mlp('BN')), r'predictor NonLinearNeck does not take .* \(B, 16\).*BN1d'),
        (dict(neck=dict(type='DINONeck', out_dim=16)), 'neck DINONeck does not take pooled features, a tuple'),
        (dict(backbone=dict(type='mmpretrain.ResNet', depth=18)), 'ResNet cannot be pre-trained with masks'),
    ],
)
def test_parts_that_do_not_fit_are_refused(parts, message):
    with pytest.raises(UsageError, match=message):
        moby(**parts)


def test_a_neck_without_batch_norm_will_do():
    plain = dict(type='LinearNeck', out_channels=16, norm_cfg=None)
    model = moby(neck=plain, predictor=plain)
    optimizer = optimizer_of(model)
    assert all(torch.isfinite(iterate(model, optimizer, iteration)) for iteration in range(2))
