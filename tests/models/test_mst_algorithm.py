"""One training step of MST, and what may not happen in it."""

from __future__ import annotations

import copy
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mstkit.errors import UsageError
from mstkit.registry import MODELS
from mstkit.structures import Progress
from tests.models.builders import BACKBONES, SIZES, mst, total, views


def step(model, inputs, index: int = 0, optimizer=None):
    optimizer = optimizer or torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    model.set_progress(Progress(index, 100, 10, rank_seed=1, iteration=index))
    losses = model.loss(inputs)
    optimizer.zero_grad()
    total(losses).backward()
    optimizer.step()
    model.after_step()
    return losses


@pytest.mark.parametrize('backbone', BACKBONES)
def test_every_trainable_tensor_gets_a_gradient_and_the_teacher_none(backbone):
    model = mst(backbone)
    model.set_progress(Progress(0, 100, 10))
    total(model.loss(views(backbone))).backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    assert not any(p.requires_grad or p.grad is not None for p in model.teacher.parameters())


def test_teacher_equals_the_student_at_first_and_moves_by_the_average():
    model = mst()
    student, teacher = model.get_submodule('backbone'), model.get_submodule('teacher.backbone')
    for (name, a), b in zip(student.state_dict().items(), teacher.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    before = copy.deepcopy(teacher.state_dict())
    step(model, views())
    for name, tensor in teacher.named_parameters():
        expected = before[name].lerp(student.state_dict()[name], 0.1)
        torch.testing.assert_close(tensor, expected, msg=name)
    assert any(not torch.equal(before[n], p) for n, p in teacher.named_parameters())


def test_losses_are_the_papers_terms():
    """Recomputed from the parts: eq. 2 on the pooled tokens, eq. 9 on all pixels, weights of eq. 11."""
    model = mst(masker=None, loss_weight_ce=0.5, loss_weight_restore=2.0)
    inputs = views()
    model.set_progress(Progress(0, 100, 10))
    losses = model.loss(inputs)
    assert set(losses) == {'loss_ce', 'loss_restore'}
    students = [model.objectives.ce.neck(model.backbone.forward_tokens(x).pooled) for x in inputs]
    teachers = [model.teacher.ce_neck(model.teacher.backbone.forward_tokens(x).pooled) for x in inputs[:2]]
    terms = [
        -((t / 0.04).softmax(-1) * (s / 0.1).log_softmax(-1)).sum(-1).mean()
        for i, t in enumerate(teachers)
        for j, s in enumerate(students)
        if i != j
    ]
    torch.testing.assert_close(losses['loss_ce'], 0.5 * torch.stack(terms).mean(), rtol=1e-4, atol=1e-5)
    errors = []
    for x in inputs[:2]:
        tokens = model.backbone.forward_tokens(x)
        restored = model.objectives.restore.decoder(tokens.patch_tokens.transpose(1, 2).reshape(2, 48, 4, 4))
        errors.append((restored - x).abs().mean())
    torch.testing.assert_close(losses['loss_restore'], 2.0 * torch.stack(errors).mean(), rtol=1e-4, atol=1e-5)


def test_only_the_students_global_views_are_masked(monkeypatch):
    model = mst()
    calls: dict[str, list[Any]] = {'student': [], 'teacher': []}
    for name, module in (('student', model.backbone), ('teacher', model.teacher.backbone)):
        real = module.forward_tokens

        def spy(images, mask=None, *args, _name=name, _real=real, **kwargs):
            calls[_name].append((images.shape[-1], mask))
            return _real(images, mask, *args, **kwargs)

        monkeypatch.setattr(module, 'forward_tokens', spy)
    model.set_progress(Progress(0, 100, 10))
    model.loss(views())
    assert [(size, mask) for size, mask in calls['teacher']] == [(32, None)]
    (big, mask), (small, no_mask) = calls['student']
    assert (big, small) == SIZES['vit']
    assert mask.shape == (4, 4, 4)
    assert mask.any()
    assert no_mask is None


def test_attention_is_computed_only_for_a_masker_that_needs_it(monkeypatch):
    import mstkit.models.backbones.masked_vit as module

    spy = Mock(wraps=module.pooled_attention)
    monkeypatch.setattr(module, 'pooled_attention', spy)
    for masker, expected in ((None, 0), (dict(type='RandomMasker'), 0), (dict(type='AttentionGuidedMasker'), 1)):
        spy.reset_mock()
        model = mst(masker=masker)
        model.set_progress(Progress(0, 100, 10))
        model.loss(views())
        assert spy.call_count == expected


def test_training_overfits_a_batch():
    torch.manual_seed(0)
    model = mst(masker=dict(type='RandomMasker', ratio=0.25))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3)
    inputs = views(batch=4)
    first = step(model, inputs, 0, optimizer)['loss_restore'].item()
    apart = model.last_statistics()['kl'].item()
    for index in range(1, 30):
        last = step(model, inputs, index, optimizer)['loss_restore'].item()
    assert last < 0.95 * first
    # The cross-entropy holds the teacher's entropy too, which the center moves; the distance to the teacher does not.
    assert model.last_statistics()['kl'] < 0.3 * apart


def test_without_decoder_or_masker_nothing_of_them_is_left():
    model = mst(masker='none', decoder=None)
    assert not any('mask_token' in key or 'decoder' in key for key in model.state_dict())
    model.set_progress(Progress(0, 100, 10))
    assert set(model.loss(views())) == {'loss_ce'}
    assert 'hidden_fraction' not in model.last_statistics()


def test_state_dict_prefixes_flow_downstream():
    model = mst()
    keys = model.state_dict()
    twin = MODELS.build({**BACKBONES['vit'], 'type': 'mmpretrain.VisionTransformer'})
    student = {k.removeprefix('backbone.'): v for k, v in keys.items() if k.startswith('backbone.')}
    teacher = {k.removeprefix('teacher.backbone.'): v for k, v in keys.items() if k.startswith('teacher.backbone.')}
    for state in (student, teacher):
        twin.load_state_dict(state, strict=True)
    assert 'objectives.ce.head.center' in keys


def test_statistics_and_panel():
    model = mst()
    inputs = views()
    step(model, inputs)
    statistics = model.last_statistics()
    assert set(statistics) == {'teacher_entropy', 'kl', 'cross_view', 'hidden_fraction'}
    assert 0 < statistics['hidden_fraction'] < 0.5
    state = copy.deepcopy(model.state_dict())
    panel = model.panel(inputs[0])
    assert panel.attention is not None and panel.mask is not None and panel.reconstruction is not None
    assert panel.attention.shape == panel.mask.shape == (2, 4, 4)
    assert panel.reconstruction.shape == inputs[0].shape
    assert model.training
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, state[key]), f'{key} changed while an image was drawn'


def test_a_forgotten_hook_does_not_pass_in_silence():
    model = mst()
    model.loss(views())
    with pytest.raises(RuntimeError, match='ProgressHook'):
        model.loss(views())


def test_teacher_and_center_ignore_the_order_of_no_views():
    """Local views of one size are encoded together, of two sizes apart; the loss is the same function."""
    model = mst(masker=None, decoder=None)
    inputs = views(local=2)
    inputs[3] = F.interpolate(inputs[3], size=24)
    model.set_progress(Progress(0, 100, 10))
    assert torch.isfinite(model.loss(inputs)['loss_ce'])


@pytest.mark.parametrize(
    ('parts', 'message'),
    [
        (
            dict(backbone=dict(type='mmpretrain.ResNet', depth=18)),
            'ResNet cannot be pre-trained with masks.*MaskedSwin',
        ),
        (dict(head=dict(type='DINOHead', out_dim=31)), 'neck.out_dim is 32 and head.out_dim is 31'),
    ],
)
def test_parts_that_do_not_fit_are_refused(parts, message):
    with pytest.raises(UsageError, match=message):
        mst(**parts)


def test_masker_without_attention_to_guide_it_is_refused(monkeypatch):
    from mstkit.models import MaskedVisionTransformer

    monkeypatch.setattr(MaskedVisionTransformer, 'provides_attention', False)
    with pytest.raises(UsageError, match='AttentionGuidedMasker needs attention, but backbone MaskedVisionTransformer'):
        mst()
    mst(masker=dict(type='RandomMasker'))


def test_view_sizes_are_checked_before_anything_runs():
    model = mst()
    model.check_views(32, 16)
    with pytest.raises(UsageError, match='36 px is not divisible by 8'):
        model.check_views(36)
    with pytest.raises(UsageError, match='12 px'):
        model.check_views(32, 12)
    with pytest.raises(UsageError, match='num=32 leaves no candidate among 16'):
        mst(masker=dict(type='AttentionGuidedMasker', num=32)).check_views(32)


def test_batch_norm_of_a_training_teacher_uses_its_own_batch():
    neck = dict(type='DINONeck', out_dim=32, hidden_dim=24, bottleneck_dim=16, batch_norm='global_only')
    model = mst(neck=neck)
    step(model, views(batch=4))
    norms = [m for m in model.teacher.modules() if isinstance(m, nn.BatchNorm1d)]
    assert norms
    assert all(m.training and m.num_batches_tracked == 2 for m in norms)
    students = [m for m in model.objectives.ce.neck.modules() if isinstance(m, nn.BatchNorm1d)]
    assert all(m.num_batches_tracked == 2 for m in students)
    assert not torch.equal(norms[0].running_mean, students[0].running_mean)


def test_the_batch_norms_of_table_6_train_differently():
    """After one step no two of them have the same weights, in head, decoder or backbone; nor the same teacher."""
    after = {}
    for name in ('global_only', 'all', None):
        torch.manual_seed(0)
        neck = dict(type='DINONeck', out_dim=32, hidden_dim=24, bottleneck_dim=16, batch_norm=name)
        model = mst(neck=neck, decoder=dict(type='CNNImageDecoder', channels=8, batch_norm=name))
        # Plain steps: Adam's would differ by the sign of a rounding error.
        step(model, views(batch=4), optimizer=torch.optim.SGD(model.parameters(), lr=1.0))
        norms = {key: value for key, value in model.state_dict().items() if 'running_mean' in key}
        after[name] = dict(model.named_parameters()) | norms
    for one, other in (('global_only', 'all'), ('global_only', None), ('all', None)):
        for key in (
            'backbone.layers.0.attn.qkv.weight',
            'teacher.backbone.layers.0.attn.qkv.weight',
            'objectives.ce.neck.mlp.0.weight',
            'teacher.ce_neck.mlp.0.weight',
            'objectives.restore.decoder.blocks.0.conv.weight',
        ):
            a, b = after[one][key], after[other][key]
            assert (a - b).norm() > 1e-4 * a.norm(), (one, other, key)
    for key in (
        'objectives.ce.neck.norms.0.running_mean',
        'teacher.ce_neck.norms.1.running_mean',
        'objectives.restore.decoder.blocks.1.norm.running_mean',
    ):
        a, b = after['global_only'][key], after['all'][key]
        assert (a - b).norm() > 1e-3 * a.norm(), key
