"""Guides: every registered one guides every kind of method, and each says what an independent computation says."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from mmcv.cnn.bricks import DropPath
from torch import Tensor

from mstkit.errors import UsageError
from mstkit.models import Guide, Masker, Pretrainer, Step
from mstkit.models.backbones.attention_scores import SCORES
from mstkit.registry import MODELS
from mstkit.structures import Progress
from tests.models.builders import SWIN, TINY, VIT, part_of, total, views
from tests.models.test_methods import build

GUIDES = sorted(
    name
    for name, cls in MODELS.module_dict.items()
    if isinstance(cls, type) and issubclass(cls, Guide) and cls.__module__.startswith('mstkit.')
)
# What is not named here is built from its defaults.
SETTINGS: dict[str, dict[str, Any]] = {}
METHODS = ('MAE', 'SimMIM', 'IBOT')
MASKERS = ('AttMaskHigh', 'AttMaskHint', 'AttMaskLow', 'AttentionGuidedMasker')


def guided(guide: Any, method: str = 'MAE', masker: str = 'AttMaskHigh', backbone: str = 'vit', **parts: Any) -> Any:
    """A method whose masker asks a guide, at the start of a run of 100 steps."""
    guide = dict(type=guide, **copy.deepcopy(SETTINGS.get(guide, {}))) if guide in GUIDES else guide
    model = build(masker, method, backbone, guide=guide, **parts)
    model.set_progress(Progress(0, 100, 10, rank_seed=1, iteration=0))
    return model


def images_of(model: Pretrainer, backbone: str = 'vit') -> list[Tensor]:
    local = any(objective.reads_local for objective in model.objectives.values())
    return views(backbone, local=1) if local else views(backbone)[: model.global_views]


@pytest.mark.parametrize('masker', MASKERS)
@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('guide', GUIDES)
def test_every_guide_in_every_kind_of_method(guide, method, masker):
    model = guided(guide, method, masker)
    loss = total(model.loss(images_of(model)))
    assert torch.isfinite(loss) and model.last_statistics()['hidden_fraction'] > 0
    loss.backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert not any(part_of(name) == 'guide' for name in trained), 'a guide is not trained'
    assert all(model.get_parameter(name).grad is not None for name in trained)
    model.after_step()


@pytest.mark.parametrize('guide', GUIDES)
def test_swin(guide):
    model = guided(guide, 'SimMIM', backbone='swin')
    loss = total(model.loss(images_of(model, 'swin')))
    assert torch.isfinite(loss) and model.last_statistics()['hidden_fraction'] > 0


@pytest.mark.parametrize('guide', GUIDES)
@pytest.mark.parametrize('masker', ['RandomMasker', 'BlockMasker'])
def test_a_mask_that_looks_at_nothing_asks_nobody(monkeypatch, guide, masker):
    """Neither a pass nor a copy of the encoder."""
    model = build(
        masker, 'SimMIM', 'vit', guide=dict(type=guide, **copy.deepcopy(SETTINGS.get(guide, {}))), teacher=None
    )
    assert model.guide is None and model.teacher is None
    calls = []
    real = model.backbone.forward_tokens

    def counted(*args: Any, **more: Any) -> Any:
        calls.append(args)
        return real(*args, **more)

    monkeypatch.setattr(model.backbone, 'forward_tokens', counted)
    model.set_progress(Progress(0, 100, 10, rank_seed=1, iteration=0))
    model.loss(images_of(model))
    assert len(calls) == 1


def plain_scores(attention: Any, tokens: Tensor, first: int, bias: Tensor | None, score: str) -> Tensor:
    """Image by image, head by head, query by query."""
    batch, length, dims = tokens.shape
    heads = attention.num_heads
    width = dims // heads
    qkv = torch.nn.functional.linear(tokens, attention.qkv.weight, attention.projection_bias())
    found = torch.zeros(batch, heads, length - first)
    for image in range(batch):
        for head in range(heads):
            query, key = (
                qkv[image, :, part * dims + head * width : part * dims + (head + 1) * width] for part in (0, 1)
            )
            rows = []
            for asking in [0] if score == 'class_token' else range(first, length):
                logits = torch.stack([(query[asking] * key[other]).sum() / width**0.5 for other in range(length)])
                if bias is not None:
                    logits = logits + bias[head, asking]
                rows.append((logits.exp() / logits.exp().sum())[first:])
            found[image, head] = torch.stack(rows).mean(dim=0)
    return found


@pytest.mark.parametrize('registers', [0, 3])
@pytest.mark.parametrize('relative', [None, 'shared', 'per_layer'])
@pytest.mark.parametrize('score', SCORES)
def test_scores_equal_a_plain_loop(score, relative, registers):
    torch.manual_seed(0)
    config = dict(VIT, num_registers=registers, relative_positions=relative)
    backbone = MODELS.build(config).eval()
    backbone.init_weights()
    for parameter in backbone.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    seen: list[tuple[Tensor, Any]] = []
    layer = backbone.layers[-2]
    layer.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append((args[0], kwargs.get('relative'))), with_kwargs=True
    )
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        tokens = backbone.forward_tokens(images, return_attention=score, attention_layer=-2)
        entering, pairs = seen[0]
        expected = plain_scores(layer.attn, layer.ln1(entering), 1 + registers, layer.attn.logit_bias(pairs), score)
    torch.testing.assert_close(tokens.attention, expected, rtol=1e-4, atol=1e-6)
    assert tokens.attention.shape == (2, TINY['num_heads'], 16)


def test_scores_of_a_swin_are_what_its_tokens_receive():
    torch.manual_seed(0)
    images = torch.randn(1, 3, 224, 224)
    pseudo, received = (MODELS.build(dict(SWIN, attention_query=query)).eval() for query in ('pseudo_cls', 'received'))
    received.load_state_dict(pseudo.state_dict())
    expected = received.forward_tokens(images, return_attention=True).attention
    assert torch.equal(pseudo.forward_tokens(images, return_attention='received').attention, expected)
    assert not torch.equal(pseudo.forward_tokens(images, return_attention='class_token').attention, expected)


def test_the_score_is_that_of_the_method_unless_it_is_given():
    for method, score in (
        ('MAE', 'received'),
        ('SimMIM', 'received'),
        ('MaskFeat', 'received'),
        ('IBOT', 'class_token'),
    ):
        assert guided('ema', method).guide.score == score
        assert guided('teacher', method).guide.score == score
        assert guided(dict(type='ema', score='class_token'), method).guide.score == 'class_token'
    for name in SCORES:
        model = guided(dict(type='TeacherGuide', score=name))
        inputs = images_of(model)
        expected = model.teacher.backbone.forward_tokens(inputs[0], return_attention=name).attention
        assert torch.equal(Step(model, inputs).teacher.attention, expected)


@pytest.mark.parametrize(('momentum', 'end'), [(0.9, None), (0.8, 1.0)])
def test_the_average_equals_a_plain_loop(momentum, end):
    torch.manual_seed(0)
    model = guided(dict(type='EMAGuide', momentum=momentum, end_momentum=end))
    expected = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for step in range(4):
        model.set_progress(Progress(step, 8, 4, rank_seed=1, iteration=step))
        optimizer.zero_grad()
        total(model.loss(images_of(model))).backward()
        optimizer.step()
        model.after_step()
        now = momentum
        if end is not None:
            now = end - (end - momentum) * (1 + torch.cos(torch.tensor(torch.pi * step / 8)).item()) / 2
        for name, value in model.backbone.named_parameters():
            expected[name] = now * expected[name] + (1 - now) * value.detach()
    for name, value in model.guide.average.get_submodule('backbone').named_parameters():
        torch.testing.assert_close(value.detach(), expected[name])
    assert any(not torch.equal(expected[name], value) for name, value in model.backbone.named_parameters())


def test_the_average_and_not_the_student_decides():
    model = guided('ema', masker='AttMaskHigh')
    inputs = images_of(model)
    before = Step(model, inputs).mask
    for parameter in model.backbone.parameters():
        torch.nn.init.normal_(parameter.data)
    model.set_progress(Progress(0, 100, 10, rank_seed=1, iteration=0))
    assert torch.equal(before, Step(model, inputs).mask)
    model.guide.copy_from(model.backbone)
    model.set_progress(Progress(0, 100, 10, rank_seed=1, iteration=0))
    assert not torch.equal(before, Step(model, inputs).mask)


def test_looking_changes_nothing():
    """In evaluation mode, so that no dropped path is drawn, and back to the mode of the training."""
    for guide in ('student', 'ema'):
        model = guided(guide)
        for part in model.modules():
            if isinstance(part, DropPath):
                part.drop_prob = 0.5
        state = torch.get_rng_state()
        assert Step(model, images_of(model)).mask is not None
        assert torch.equal(state, torch.get_rng_state())
        assert model.backbone.training and all(layer.training for layer in model.backbone.layers)


class Curious(Masker):
    """Wants tokens, hides nothing."""

    needs_tokens = True

    def hide(self, context, generator):
        assert context.tokens is not None and context.scores is None
        return torch.zeros(context.shape, dtype=torch.bool)


@pytest.mark.parametrize('guide', ['student', 'ema'])
def test_tokens(guide):
    model = build('AttMaskHigh', 'MAE', 'vit', guide=guide, masker=Curious())
    step = Step(model, images_of(model))
    assert step.mask is not None and not step.mask.any()


@pytest.mark.parametrize(
    ('guide', 'message'),
    [
        ('emma', "model.guide is 'emma': give 'teacher'"),
        (dict(type='EMAGuide', momentum=1.5), r'EMAGuide\.momentum is 1\.5'),
        (dict(type='EMAGuide', momentum=0.9, end_momentum=0.5), 'below momentum=0.9'),
        (dict(type='EMAGuide', score='pooled'), r"EMAGuide\.score is 'pooled'.*class_token"),
        (None, "give guide='teacher' .* or guide='ema'"),
    ],
)
def test_what_cannot_guide_is_refused_with_what_to_take(guide, message):
    with pytest.raises(UsageError, match=message):
        guided(guide)
