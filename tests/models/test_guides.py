"""Guides: every registered one guides every kind of method, and each says what an independent computation says."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmcv.cnn.bricks import DropPath
from torch import Tensor

from mstkit.errors import UsageError
from mstkit.models import CachedGuide, Guide, Masker, Pretrainer, Step
from mstkit.models.backbones.attention_scores import SCORES
from mstkit.models.guides import crop_maps
from mstkit.networks import AttentionMaps
from mstkit.registry import MODELS
from mstkit.structures import Progress
from tests.models.builders import SWIN, TINY, VIT, part_of, total, views
from tests.models.test_methods import SMALL_DECODER, build

GUIDES = sorted(
    name
    for name, cls in MODELS.module_dict.items()
    if isinstance(cls, type) and issubclass(cls, Guide) and cls.__module__.startswith('mstkit.')
)
# What is not named here is built from its defaults.
SETTINGS: dict[str, dict[str, Any]] = {'FrozenGuide': dict(source='timm:vit_tiny_patch16_224')}
# What the method of a guide has to have.
PARTS: dict[str, dict[str, Any]] = {
    'PredictedLossGuide': dict(objectives=dict(rank=dict(type='LossPrediction', decoder=SMALL_DECODER))),
    'GeneratedMaskGuide': dict(objectives=dict(generate=dict(type='MaskGeneration'))),
    'LearnedMaskGuide': dict(objectives=dict(hide=dict(type='CurriculumMasking', network=dict(num_layers=1)))),
}
METHODS = ('MAE', 'SimMIM', 'IBOT')
MASKERS = ('AttMaskHigh', 'AttMaskHint', 'AttMaskLow', 'AttentionGuidedMasker')


def guided(guide: Any, method: str = 'MAE', masker: str = 'AttMaskHigh', backbone: str = 'vit', **parts: Any) -> Any:
    """A method whose masker asks a guide, at the start of a run of 100 steps."""
    parts = {**copy.deepcopy(PARTS.get(guide if isinstance(guide, str) else '', {})), **parts}
    guide = dict(type=guide, **copy.deepcopy(SETTINGS.get(guide, {}))) if guide in GUIDES else guide
    model = build(masker, method, backbone, guide=guide, **parts)
    model.set_progress(Progress(0, 100, 10, rank_seed=1, iteration=0))
    return model


def images_of(model: Pretrainer, backbone: str = 'vit') -> list[Tensor]:
    local = any(objective.reads_local for objective in model.objectives.values())
    return views(backbone, local=1) if local else views(backbone)[: model.global_views]


def loss_of(model: Any, backbone: str = 'vit') -> dict[str, Tensor]:
    """Of a step on two images, whose scores are there where the guide keeps them."""
    inputs = images_of(model, backbone)
    if isinstance(model.guide, CachedGuide):
        model.guide.keep(torch.rand(2, 5, 5), torch.ones(2, dtype=torch.bool), 0)
    samples = [SimpleNamespace(sample_idx=index, view_boxes=[[0.1, 0.2, 0.5, 0.5, index]] * 3) for index in (0, 1)]
    return model.loss(inputs, samples)


@pytest.mark.parametrize('guide', GUIDES)
def test_a_panel_shows_what_guides_the_masker(guide):
    """The scores by which the patches of its mask were chosen, not those of another network."""
    model = guided(guide)
    panel = model.panel(views('vit')[0])
    images = len(panel.images)
    assert panel.attention_of == ('teacher' if guide == 'TeacherGuide' else guide)
    assert panel.attention is not None and panel.mask is not None and panel.mask.any()
    scores, hidden = panel.attention.view(images, -1), panel.mask.view(images, -1)
    for one, where in zip(scores, hidden, strict=True):
        assert not where.any() or one[where].min() >= one[~where].max(), 'AttMaskHigh hides the most attended'


@pytest.mark.parametrize('masker', MASKERS)
@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('guide', GUIDES)
def test_every_guide_in_every_kind_of_method(guide, method, masker):
    model = guided(guide, method, masker)
    loss = total(loss_of(model))
    assert torch.isfinite(loss) and model.last_statistics()['hidden_fraction'] > 0
    loss.backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert not any(part_of(name) == 'guide' for name in trained), 'a guide is not trained'
    assert all(model.get_parameter(name).grad is not None for name in trained)
    model.after_step()


@pytest.mark.parametrize('guide', GUIDES)
def test_swin(guide):
    model = guided(guide, 'SimMIM', backbone='small swin')
    loss = total(loss_of(model, 'small swin'))
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


@pytest.mark.parametrize(('method', 'backbone'), [*((method, 'vit') for method in METHODS), ('SimMIM', 'small swin')])
@pytest.mark.parametrize('guide', GUIDES)
def test_every_guide_hands_tokens_out_or_is_refused(guide, method, backbone):
    if not MODELS.get(guide).gives_tokens:
        with pytest.raises(UsageError, match=f"PartMasker needs patch tokens, and {guide} keeps .* guide='ema'"):
            guided(guide, method, 'PartMasker', backbone)
        return
    model = guided(guide, method, 'PartMasker', backbone)
    step = Step(model, images_of(model, backbone))
    asked = any(one.needs_scores for one in step.model.objectives.values())
    assert step.guidance is not None and (step.guidance.attention is not None) == asked
    patches = step.guidance.grid[0] * step.guidance.grid[1]
    assert step.guidance.patch_tokens.shape[:2] == (len(step.images), patches)
    assert step.guidance.grid == model.backbone.grid_of(step.images)
    model.set_progress(Progress(0, 100, 10, rank_seed=1, iteration=0))
    losses = loss_of(model, backbone)
    assert torch.isfinite(total(losses)) and model.last_statistics()['hidden_fraction'] > 0


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


def plain_crop(image: Tensor, box: list[float], grid: tuple[int, int]) -> Tensor:
    """One map by loops: bilinear at the centers of the cells, the border repeated."""
    height, width = image.shape
    found = torch.zeros(grid)
    for row in range(grid[0]):
        for column in range(grid[1]):
            across = (column + 0.5) / grid[1]
            across = 1 - across if box[4] else across
            x, y = (box[0] + box[2] * across) * width - 0.5, (box[1] + box[3] * (row + 0.5) / grid[0]) * height - 0.5
            x, y = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
            left, top = int(x), int(y)
            right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
            upper = image[top, left] * (1 - (x - left)) + image[top, right] * (x - left)
            lower = image[bottom, left] * (1 - (x - left)) + image[bottom, right] * (x - left)
            found[row, column] = upper * (1 - (y - top)) + lower * (y - top)
    return found


def test_a_map_is_cut_and_mirrored_as_a_view_is():
    maps = torch.rand(4, 6, 5)
    boxes = [[0, 0, 1, 1, 0], [0, 0, 1, 1, 1], [0.2, 0.5, 0.6, 0.3, 0], [0.5, 0.0, 0.5, 0.25, 1]]
    for grid in ((6, 5), (4, 7)):
        expected = torch.stack([plain_crop(*pair, grid) for pair in zip(maps, boxes, strict=True)])
        torch.testing.assert_close(crop_maps(maps, torch.tensor(boxes), grid).view(4, *grid), expected)
    whole = crop_maps(maps, torch.tensor(boxes[:1]).expand(4, -1), (6, 5))
    torch.testing.assert_close(whole, maps.flatten(1))


def test_kept_scores_of_a_whole_image_are_those_of_the_encoder():
    model = guided('CachedGuide')
    inputs = images_of(model)
    own = model.guide.importance(model, inputs[0])
    torch.testing.assert_close(own.flatten(1).mean(1), torch.ones(2))
    expected = model.backbone.eval().forward_tokens(inputs[0], return_attention='received').attention.mean(1)
    torch.testing.assert_close(own.flatten(1), expected / expected.mean(1, keepdim=True))
    model.train()
    model.guide.keep(own.flip(0), torch.ones(2, dtype=torch.bool), 0)
    samples = [SimpleNamespace(sample_idx=index, view_boxes=[[0, 0, 1, 1, 0]]) for index in (1, 0)]
    step = Step(model, inputs, data_samples=samples)
    torch.testing.assert_close(model.guide(step, model.masker).attention[:, 0], own.flatten(1), rtol=1e-3, atol=1e-3)
    samples[0].replaced = ['broken.jpg']  # its file is another one, so that it is encoded in the step
    found = model.guide(Step(model, inputs, data_samples=samples), model.masker).attention
    assert torch.equal(found[0, 0], own[0].flatten()) and not torch.equal(found[1, 0], own[1].flatten())


def test_kept_scores_are_due_every_few_epochs():
    guide = CachedGuide(every=3)
    refreshed = []
    for epoch in range(8):
        if guide.due(epoch):
            guide.keep(torch.ones(1, 2, 2), torch.ones(1, dtype=torch.bool), epoch)
            refreshed.append(epoch)
    assert refreshed == [0, 3, 6]


def test_without_scores_there_is_no_training():
    with pytest.raises(RuntimeError, match='GuideCacheHook'):
        model = guided('CachedGuide')
        model.loss(images_of(model))


@pytest.mark.parametrize('size', [32, 64])
def test_a_frozen_network_sees_images_as_it_wants_them(size):
    model = guided('FrozenGuide', backbone='vit')
    network = model.guide.network
    assert not any('network' in name for name in model.state_dict())
    images = torch.randn(2, 3, size, size)
    pixels = images * 64 + 127.5
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (network.mean, network.std))
    wanted = torch.nn.functional.interpolate(
        (pixels - mean) / std, (network.image_size,) * 2, mode='bilinear', antialias=True
    )
    maps: list[AttentionMaps] = []
    network.watch(wanted, on_attention=maps.append, blocks=(-1,))
    expected = maps[0].weights[:, :, 0, 1:].unflatten(-1, (14, 14))
    grid = (size // 8, size // 8)
    expected = torch.nn.functional.interpolate(expected, grid, mode='bilinear', antialias=True)
    found = model.guide.encode(model, images, model.masker)
    assert found.grid == grid
    torch.testing.assert_close(found.attention, expected.flatten(2), rtol=1e-3, atol=1e-5)


def test_a_frozen_network_of_other_weights_is_refused():
    model = guided('FrozenGuide')
    state = model.state_dict()
    model.load_state_dict(state)
    state['guide.fingerprint'] = state['guide.fingerprint'] ^ 1
    with pytest.raises(UsageError, match='not those that guided the run'):
        model.load_state_dict(state)
    with pytest.raises(UsageError, match=r"has to say of what.*source='FILE.pth'"):
        guided('frozen')
    with pytest.raises(UsageError, match=r"CachedGuide\.guide is 'teacher': give 'student'"):
        guided(dict(type='cached', guide='teacher'))
    with pytest.raises(UsageError, match='keeps scores alone'):
        build('AttMaskHigh', 'MAE', 'vit', guide='cached', masker=Curious())
