"""AutoMAE: a step against its formulas, what trains whom, masks and rectangles against plain loops."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mstkit.errors import UsageError
from mstkit.models import PreferenceMasker, Pretrainer, Step
from mstkit.models.mask_generator import MaskDiscriminator
from mstkit.models.objectives.mask_generation import rectangles
from mstkit.structures import MaskContext, Progress
from tests.models.builders import SMALL_BACKBONES, gradient_of, total, views
from tests.models.mim_models import Given, build, images, masks
from tests.models.parity import check_gradients, in_float64
from tests.models.plain_mim import mae_loss

GENERATED: dict[str, Any] = dict(
    masker=dict(type='PreferenceMasker'),
    guide=dict(type='generated', source=dict(type='ema', momentum=0.9)),
    objectives=dict(generate=dict(type='MaskGeneration')),
)


def auto(kind: str = 'MAE', **parts: Any) -> Pretrainer:
    return build(kind, **{**copy.deepcopy(GENERATED), **parts})


def plain_normalized(weights: dict[str, Tensor], buffers: dict[str, Tensor], layer: str) -> Tensor:
    """A weight divided by its largest singular value, as far as the stored vectors of the power method know it."""
    weight = weights[f'{layer}.parametrizations.weight.original']
    u, v = (buffers[f'{layer}.parametrizations.weight.0.{name}'].double() for name in ('_u', '_v'))
    return weight / (u @ weight.flatten(1) @ v)


def plain_discriminator(maps: Tensor, weights: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
    name = 'objectives.generate.discriminator.layers'
    for layer, stride in ((0, 1), (2, 2), (4, 1)):
        maps = F.conv2d(maps, plain_normalized(weights, buffers, f'{name}.{layer}'), stride=stride, padding=1)
        if layer < 4:
            maps = torch.where(maps > 0, maps, 0.2 * maps)
    return maps.flatten(1)


def plain_generator(attention: Tensor, weights: dict[str, Tensor]) -> Tensor:
    name = 'objectives.generate.generator.layers'
    maps = attention / attention.mean(dim=2, keepdim=True)
    maps = maps.view(len(maps), -1, 4, 4)
    for layer in (0, 2):
        maps = F.conv2d(maps, weights[f'{name}.{layer}.weight'], weights.get(f'{name}.{layer}.bias'), padding=1)
        maps = maps.clamp_min(0) if layer == 0 else maps
    return maps.flatten(1)


def seen_noise(model: Pretrainer, count: int) -> tuple[Tensor, Tensor]:
    """Gumbel noise (B, L) and the real masks (B, 4, 4) of a step that starts from this state of the generator."""
    state = torch.get_rng_state()
    torch.manual_seed(5)
    noise = -torch.empty(count, 16).exponential_().log()
    real = rectangles(count, (4, 4), model.objectives['generate'].edge, torch.device('cpu'))
    torch.set_rng_state(state)
    return noise.double(), real.double()


@pytest.mark.parametrize('strength', [0.5, 0.0])
def test_loss_and_gradients_of_a_step_are_those_of_the_formulas(strength):
    hidden, batch = masks(counts=(10, 12, 4)), images()
    generate = dict(type='MaskGeneration', strength=strength, adversarial=0.3, edge=0.7, temperature=0.8)
    model = auto(masker=Given(hidden), objectives=dict(generate=generate))
    model.objectives['generate'].discriminator.eval()  # the power method stands still
    weights, buffers = in_float64(model), dict(model.named_buffers())
    with torch.no_grad():
        average = model.guide.source.average.get_submodule('backbone').eval()
        attention = average.forward_tokens(batch, return_attention='received')
    assert attention.attention is not None
    noise, real = seen_noise(model, 3)
    torch.manual_seed(5)
    losses = model.loss([batch])
    total(losses).backward()
    shares = ((plain_generator(attention.attention.double(), weights) + noise) / 0.8).softmax(dim=1)
    factors = 1 + strength * (shares - shares.detach()).view(3, 4, 4)
    predict = mae_loss(batch, hidden, weights, 8, (3, 2), norm=True, factors=factors)
    made = 16 * shares.view(3, 1, 4, 4)
    judged, of_made = (plain_discriminator(maps, weights, buffers) for maps in (16 * real[:, None], made.detach()))
    discriminating = ((judged - 1) ** 2).mean() + (of_made**2).mean()
    fixed = {name: one.detach() for name, one in weights.items()}
    deceiving = ((plain_discriminator(made, fixed, buffers) - 1) ** 2).mean()
    assert losses['loss_predict'].item() == pytest.approx(predict.item(), rel=1e-5)
    assert losses['loss_generate'].item() == pytest.approx((discriminating + 0.3 * deceiving).item(), rel=1e-5)
    (predict + discriminating + 0.3 * deceiving).backward()
    check_gradients(model, weights)
    found = model.last_statistics()
    assert found['mask_judged_real'].item() == pytest.approx(judged.mean().item(), rel=1e-4)
    assert found['mask_judged_made'].item() == pytest.approx(of_made.mean().item(), rel=1e-4, abs=1e-6)
    entropy = -(shares * shares.log()).sum(dim=1)
    assert found['mask_spread'].item() == pytest.approx(entropy.exp().mean().item(), rel=1e-4)


@pytest.mark.parametrize('kind', ['MAE', 'SimMIM'])
def test_the_other_losses_train_the_generator_and_see_images_as_they_are(kind):
    batch, hidden = images(), masks()
    found = {}
    for strength in (0.0, 0.5, 1.0):
        generate = dict(type='MaskGeneration', strength=strength)
        model = auto(kind, masker=Given(hidden), objectives=dict(generate=generate))
        torch.manual_seed(5)
        loss = model.loss([batch])['loss_predict']
        loss.backward()
        found[strength] = loss.item(), gradient_of(model.objectives['generate'].generator.layers[0].weight)
    assert len({loss for loss, _ in found.values()}) == 1
    plain = build(kind, masker=Given(hidden))
    plain.load_state_dict({key: value for key, value in model.state_dict().items() if key in plain.state_dict()})
    assert found[0.5][0] == pytest.approx(plain.loss([batch])['loss_predict'].item(), rel=1e-6)
    assert not found[0.0][1].any() and found[0.5][1].any()
    torch.testing.assert_close(found[1.0][1], 2 * found[0.5][1])


def test_judging_leaves_the_discriminator_alone():
    discriminator = MaskDiscriminator()
    maps = torch.rand(2, 1, 4, 4, requires_grad=True)
    discriminator.eval()
    assert torch.equal(discriminator.judge(maps), discriminator(maps))
    discriminator.judge(maps).square().sum().backward()
    assert gradient_of(maps).any()
    assert all(parameter.grad is None for parameter in discriminator.parameters())


def test_the_discriminator_learns_to_tell_rectangles_from_noise():
    torch.manual_seed(0)
    discriminator = MaskDiscriminator()
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=1e-2)
    for _ in range(150):
        real = 64 * rectangles(64, (8, 8), 2.0, torch.device('cpu'))[:, None]
        made = 64 * F.gumbel_softmax(torch.zeros(64, 64), dim=1).view(64, 1, 8, 8)
        loss = (discriminator(real) - 1).square().mean() + discriminator(made).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert discriminator(real).mean() - discriminator(made).mean() > 0.3


@pytest.mark.parametrize('grid', [(14, 14), (8, 8), (7, 7), (2, 2), (1, 1), (4, 9)])
def test_rectangles_are_those_of_the_code(grid):
    """Area, width and place within their bounds, and the softmax of a step of height ``edge`` over noise."""
    torch.manual_seed(0)
    height, width = grid
    real = rectangles(300, grid, 20.0, torch.device('cpu'))
    torch.testing.assert_close(real.sum(dim=(1, 2)), torch.ones(300))
    sizes = set()
    for image in real:
        inside = image > image.max() * math.exp(-1.01)  # noise alone changes it by a factor of e at most
        rows, columns = inside.any(dim=1).nonzero().flatten(), inside.any(dim=0).nonzero().flatten()
        tall, wide = len(rows), len(columns)
        assert inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all() and inside.sum() == tall * wide
        low = max(1, int(width * 4 / 14))
        assert low <= wide <= max(low, width - low)
        assert tall == height or 40 / 196 * height * width <= tall * wide < 160 / 196 * height * width + wide
        sizes.add((tall, wide))
    if grid == (14, 14):
        assert {wide for _, wide in sizes} == set(range(4, 11))


def context(scores: Tensor) -> MaskContext:
    return MaskContext(torch.zeros(len(scores), 3, 1, 1), (1, scores.shape[1]), scores=scores[:, None])


@pytest.mark.parametrize('direction', ['most', 'least'])
def test_preferred_patches_are_hidden_as_often_as_in_a_plain_loop(direction):
    scores = torch.arange(8.0).expand(20_000, -1)
    masker = PreferenceMasker(ratio=0.75, preference=0.5, direction=direction)
    masker.set_progress(Progress(0, 10, 5, 1, 0))
    hidden = masker(context(scores)).flatten(1)
    assert (hidden.sum(dim=1) == 6).all()
    preferred = {6, 7} if direction == 'most' else {0, 1}
    generator, counts = torch.Generator().manual_seed(3), [0] * 8
    for row in torch.rand(20_000, 8, generator=generator).tolist():
        sums = [value + 0.5 * (place in preferred) for place, value in enumerate(row)]
        for place in sorted(range(8), key=sums.__getitem__)[2:]:
            counts[place] += 1
    torch.testing.assert_close(hidden.float().mean(dim=0), torch.tensor(counts) / 20_000, rtol=0, atol=0.015)
    share = hidden[:, sorted(preferred)].float().mean()
    assert 0.93 < share < 1, 'more often than 0.75, and not always'


def test_without_a_preference_it_is_random_and_with_a_large_one_attmask():
    scores = torch.rand(500, 16, generator=torch.Generator().manual_seed(7))
    masker = PreferenceMasker(ratio=0.75, preference=0.0)
    shares = masker(context(scores)).flatten(1).float()
    top = scores.argsort(dim=1, descending=True)[:, :4]
    assert shares.gather(1, top).mean().item() == pytest.approx(0.75, abs=0.03)
    sure = PreferenceMasker(ratio=0.75, preference=1.0)(context(scores)).flatten(1)
    assert sure.gather(1, top).all()


def test_what_guides_is_random_in_training_and_fixed_in_a_panel():
    model, batch = auto(), images()
    first, second = (Step(model, [batch]).guidance for _ in range(2))
    assert first is not None and second is not None
    assert first.attention is not None and second.attention is not None
    assert not torch.equal(first.attention, second.attention)
    torch.testing.assert_close(first.attention.sum(dim=2), torch.ones(3, 1))
    state = torch.get_rng_state()
    one, other = (model.panel(batch) for _ in range(2))
    assert one.attention is not None and other.attention is not None and one.mask is not None
    assert torch.equal(one.attention, other.attention) and one.attention_of == 'GeneratedMaskGuide'
    assert torch.equal(torch.get_rng_state(), state), 'a panel draws no random number'


@pytest.mark.parametrize('backbone', SMALL_BACKBONES)
def test_any_source_in_any_method(backbone):
    sources: list[Any] = ['ema', 'student', 'teacher']
    for source in sources:
        parts = dict(GENERATED, guide=dict(type='generated', source=source), backbone=SMALL_BACKBONES[backbone])
        model = build('SimMIM', **copy.deepcopy(parts))
        model.check_views(views(backbone)[0].shape[-1])
        total(model.loss(views(backbone)[:1])).backward()
        assert (model.teacher is not None) == (source == 'teacher')
        assert gradient_of(model.objectives['generate'].generator.layers[0].weight).any()
        model.after_step()


@pytest.mark.parametrize(
    ('parts', 'message'),
    [
        (dict(objectives={}), r'no objective generates masks: add model\.objectives=dict\(generate='),
        (
            dict(objectives=dict(a=dict(type='MaskGeneration'), b=dict(type='MaskGeneration'))),
            "several objectives generate masks: give objective='a' or 'b'",
        ),
        (
            dict(guide=dict(type='generated', objective='c')),
            "there is no MaskGeneration 'c': give objective='generate'",
        ),
        (dict(guide=dict(type='generated', source='cached')), "source is 'cached'.*give 'ema', 'teacher'"),
        (dict(guide=dict(type='generated', source='generated')), "source is 'generated'"),
    ],
)
def test_mistakes_are_told(parts, message):
    with pytest.raises(UsageError, match=message):
        auto(**parts)


def test_without_a_masker_there_is_nothing_to_generate():
    with pytest.raises(UsageError, match=r"a generator of masks, but Pretrainer has no masker: give one.*'generated'"):
        build('Pretrainer', objectives=dict(generate=dict(type='MaskGeneration')))


def test_a_generator_that_nobody_asks_is_refused_before_the_run():
    model = auto(guide='ema')
    with pytest.raises(UsageError, match=r"'generate' \(MaskGeneration\) trains a generator of masks that no guide"):
        model.check_views(32)
    auto().check_views(32)


def test_another_number_of_heads_is_told():
    model = auto(objectives=dict(generate=dict(type='MaskGeneration', heads=5)))
    with pytest.raises(UsageError, match='built for 5 heads, but the attention of its source has 3: set heads=3'):
        model.loss([images()])
