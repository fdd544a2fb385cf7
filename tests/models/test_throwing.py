"""Patches that are thrown (AMT): exact counts, in any order; a step is that of the formulas without these patches."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mstkit.errors import UsageError
from mstkit.models import Masker, RatioSchedule, ThrowingMasker
from mstkit.models.step import Step
from mstkit.structures import MaskContext, Progress, VisibleOutput
from tests.models.builders import NECK, SWIN, VIT, total
from tests.models.mim_models import DECODER, Given, build, epochs_with_new_scores, images, masks
from tests.models.plain_mim import mae_loss
from tests.models.test_mim_steps import held_against
from tests.models.test_multinomial_masker import at, one_after_another


def seen(batch: int, height: int = 14, width: int = 14) -> MaskContext:
    scores = torch.rand(batch, 2, height * width, generator=torch.Generator().manual_seed(0)) ** 4
    return MaskContext(torch.zeros(batch, 3, 1, 1), (height, width), scores=scores)


def counts(masker: Masker, context: MaskContext, iteration: int = 0) -> list[list[int]]:
    """Hidden and thrown patches of each image."""
    hidden, thrown = at(masker, iteration).draw(context)
    assert thrown is not None and not (hidden & thrown).any()
    return torch.stack((hidden.flatten(1).sum(1), thrown.flatten(1).sum(1)), dim=1).tolist()


# -- what is drawn ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('order', ['drawn', 'ranked', 'random'])
@pytest.mark.parametrize('direction', ['most', 'least'])
def test_exact_counts_are_those_of_the_published_code(order, direction):
    """int(.45 L) hidden, int(.85 L) hidden or thrown: 88, 78 and 30 of 196; 28, 26 and 10 of 64."""
    masker = ThrowingMasker(order=order, direction=direction)
    assert masker.equal_counts and masker.throws and masker.needs_scores is (order != 'random')
    for sides, expected in (((14, 14), [88, 78]), ((8, 8), [28, 26]), ((3, 5), [6, 6])):
        assert counts(masker, seen(6, *sides)) == [expected] * 6
    assert counts(ThrowingMasker(ratio=0.7, throw=0.1, order=order), seen(2, 2, 5)) == [[7, 1]] * 2, (
        'not lost to floats'
    )


@pytest.mark.parametrize('direction', ['most', 'least'])
def test_the_order_is_that_of_attention(direction):
    context = seen(3)
    assert context.scores is not None
    importance = context.scores.mean(1)
    hidden, thrown = at(ThrowingMasker(order='ranked', direction=direction), 0).draw(context)
    assert thrown is not None
    for row, first, second in zip(importance, hidden.flatten(1), thrown.flatten(1), strict=True):
        order = row.argsort(descending=direction == 'most')
        assert set(order[:88].tolist()) == set(first.nonzero().flatten().tolist())
        assert set(order[88:166].tolist()) == set(second.nonzero().flatten().tolist())


@pytest.mark.parametrize('direction', ['most', 'least'])
def test_draws_are_as_likely_as_one_after_another(direction):
    """The first drawn is hidden, the next is thrown: the probabilities of both are those of all orders of draws."""
    values, batch = [0.5, 0.3, 0.15, 0.05], 20_000
    weights = [one if direction == 'most' else 1 / one for one in values]
    context = MaskContext(torch.zeros(batch, 3, 1, 1), (1, 4), scores=torch.tensor(values).expand(batch, 1, -1))
    hidden, thrown = at(ThrowingMasker(ratio=0.25, throw=0.25, direction=direction), 0).draw(context)
    assert thrown is not None
    first, either = one_after_another(weights, 1), one_after_another(weights, 2)
    for index in range(4):
        expected = sum(p for members, p in either.items() if index in members) - first[frozenset({index})]
        assert hidden.flatten(1)[:, index].float().mean().item() == pytest.approx(first[frozenset({index})], abs=0.02)
        assert thrown.flatten(1)[:, index].float().mean().item() == pytest.approx(expected, abs=0.02)


def test_some_images_stay_whole_and_ratios_of_images_differ():
    context = seen(200)
    half = counts(ThrowingMasker(image_prob=0.5), context)
    assert {tuple(one) for one in half} == {(0, 0), (88, 78)}
    ranged = ThrowingMasker(ratio=(0.2, 0.4), throw=0.3)
    assert not ranged.equal_counts
    found = counts(ranged, context)
    assert len({one for one, _ in found}) > 10 and {one for _, one in found} == {98 - 39}
    assert [one for one, _ in found] == at(ranged, 0)(context).flatten(1).sum(1).tolist(), 'forward gives the hidden'


def test_the_same_iteration_draws_the_same():
    """A resumed run needs no state of the masker."""
    for masker in (ThrowingMasker(image_prob=0.5), ThrowingMasker(ratio=(0.1, 0.5), order='random')):
        first, again, later = (at(masker, iteration).draw(seen(4)) for iteration in (7, 7, 8))
        assert first.thrown is not None and again.thrown is not None and later.thrown is not None
        assert torch.equal(first.hidden, again.hidden) and torch.equal(first.thrown, again.thrown)
        assert not torch.equal(first.thrown, later.thrown)
        hidden = at(masker, 7).hide(seen(4), masker._generator(torch.device('cpu')))
        assert torch.equal(hidden, first.hidden.flatten(1))


def test_in_schedules():
    phases = [(0, dict(type='RandomMasker', ratio=0.75)), (4, dict(type='ThrowingMasker')), (8, None)]
    scheduled = build('MAE', masker=dict(type='MaskerSchedule', phases=phases))
    found = []
    for epoch in (0, 4, 8):
        scheduled.set_progress(Progress(10 * epoch, 100, 10, rank_seed=1, iteration=10 * epoch))
        scheduled.loss([images()])
        found.append({k: float(v) for k, v in scheduled.last_statistics().items() if k.endswith('_fraction')})
    assert found == [
        dict(hidden_fraction=0.75),
        dict(hidden_fraction=7 / 16, thrown_fraction=6 / 16),
        dict(hidden_fraction=0),
    ]
    masker = RatioSchedule(dict(type='ThrowingMasker', order='random'), start=0.1, end=0.5, epochs=4)
    assert masker.throws and not masker.needs_scores
    assert counts(masker, seen(1)) == [[19, 79]] and counts(masker, seen(1), 40) == [[98, 78]]


# -- a step ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('norm', [True, False])
@pytest.mark.parametrize(('height', 'width'), [(32, 32), (24, 40)])
@pytest.mark.parametrize('sizes', [((6, 6, 6), (6, 6, 6)), ((3, 8, 0), (9, 0, 4))], ids=['equal', 'unequal'])
def test_a_step_is_that_of_its_formulas(norm, height, width, sizes):
    hidden = masks(height // 8, width // 8, sizes[0])
    first = masks(height // 8, width // 8, tuple(a + b for a, b in zip(*sizes, strict=True)))
    thrown = first & ~hidden
    assert thrown.flatten(1).sum(1).tolist() == list(sizes[1])
    model = build('MAE', backbone=dict(VIT, img_size=(height, width)), masker=Given(hidden, thrown), norm_pix=norm)
    shown = images(height, width)
    held_against(model, shown, lambda weights: mae_loss(shown, hidden, weights, 8, (3, 2), norm, thrown))


def parts() -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden and thrown patches of three images, as many in each."""
    hidden = masks(counts=(7, 7, 7))
    return hidden, masks(counts=(13, 13, 13)) & ~hidden


def test_thrown_pixels_matter_to_nothing_and_their_places_have_no_token():
    hidden, thrown = parts()
    model = build('MAE', masker=Given(hidden, thrown))
    lengths: dict[str, tuple[int, ...]] = {}
    for name in ('backbone.layers.0', 'objectives.predict.decoder.layers.0'):
        layer = model.get_submodule(name)
        layer.register_forward_pre_hook(lambda _, inputs, name=name: lengths.update({name: tuple(inputs[0].shape[:2])}))
    loss = model.loss([images()])['loss_predict']
    assert list(lengths.values()) == [(3, 1 + 3), (3, 1 + 10)], 'visible ones; hidden and visible ones'
    fine = thrown[:, None].repeat_interleave(8, 2).repeat_interleave(8, 3)
    assert model.loss([images().masked_fill(fine, 7.0)])['loss_predict'] == loss
    assert model.last_statistics()['hidden_fraction'] == 7 / 16 and model.last_statistics()['thrown_fraction'] == 6 / 16


def test_a_loss_on_all_patches_leaves_out_the_thrown():
    hidden, thrown = parts()
    objectives = dict(predict=dict(type='MaskedPrediction', target=dict(type='Pixels'), decoder=DECODER, on='all'))
    model = build(
        'Pretrainer', objectives=objectives, masker=Given(hidden, thrown), encoder_sees='visible', global_views=1
    )
    step = Step(model, [images()])
    assert isinstance(step.visible, VisibleOutput) and step.thrown is not None
    predict = model.objectives['predict']
    made, target = predict.decoder(step.visible), predict.target(images(), (4, 4))
    expected = (made - target)[~thrown.flatten(1)].square().mean()
    torch.testing.assert_close(model.loss([images()])['loss_predict'], expected)


def test_with_other_objectives_and_large_cells():
    """A contrast of views on what the encoder sees; patches hidden and thrown in squares of two by two."""
    views = dict(type='CrossView', neck=NECK, head=dict(type='DINOHead'))
    masker = dict(type='ThrowingMasker', ratio=0.25, throw=0.25)
    model = build('MAE', masker=masker, objectives=dict(ce=views), global_views=2, mask_patch_size=16)
    losses = model.loss([images(), images(), images(16, 16)])
    total(losses).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    step = Step(model, [images(), images()])
    for mask in (step.mask, step.thrown):
        assert mask is not None
        cells = mask.unflatten(2, (2, 2)).unflatten(1, (2, 2)).float().mean(dim=(2, 4))
        assert set(cells.unique().tolist()) == {0, 1} and (cells.sum(dim=(1, 2)) == 1).all()


def test_everything_is_thrown_or_hidden():
    hidden = masks(counts=(10, 0, 16))
    model = build('MAE', masker=Given(hidden, ~hidden))
    loss = model.loss([images()])['loss_predict']
    loss.backward()
    assert torch.isfinite(loss) and all(torch.isfinite(p.grad).all() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize('hog', [False, True])
def test_the_panel_knows_nothing_of_what_was_thrown(hog):
    hidden, thrown = parts()
    model = build('MAE', masker=Given(hidden, thrown), **(dict(target=dict(type='HOG')) if hog else {}))
    panel = model.panel(images())
    assert panel.thrown is not None and torch.equal(panel.thrown, thrown)
    assert panel.mask is not None and torch.equal(panel.mask, hidden)
    fine = [one[:, None].repeat_interleave(8, 2).repeat_interleave(8, 3).expand(-1, 3, -1, -1) for one in parts()]
    for made in (panel.reconstruction, panel.target):
        if made is not None:
            assert not made[fine[1]].any()
            assert torch.equal(made[~fine[0] & ~fine[1]], images()[~fine[0] & ~fine[1]])
    assert (panel.target is not None) is hog


# -- what does not fit -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(('method', 'backbone'), [('SimMIM', VIT), ('SimMIM', SWIN), ('BEiT', VIT), ('Data2Vec', VIT)])
@pytest.mark.parametrize('scheduled', [False, True])
def test_an_encoder_with_mask_tokens_refuses(method, backbone, scheduled):
    masker: dict[str, Any] = dict(type='ThrowingMasker')
    if scheduled:
        masker = dict(type='MaskerSchedule', phases=[(0, dict(type='RandomMasker')), (5, masker)])
    with pytest.raises(UsageError, match=f'{method}: masker ThrowingMasker throws patches, .*MultinomialMasker.*MAE'):
        build(method, backbone=backbone, masker=masker)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(ratio=0.7), r'ratio=0\.7 and throw=0\.4 are more than all patches'),
        (dict(throw=-1), r'ThrowingMasker\.throw is -1'),
        (dict(order='rank'), "order is 'rank': give 'drawn', 'ranked' or 'random'. Did you mean ranked"),
        (dict(direction='high'), "direction is 'high'"),
        (dict(layer=0), 'from the end'),
    ],
)
def test_mistakes_are_told(settings, message):
    with pytest.raises(UsageError, match=message):
        ThrowingMasker(**settings)


def test_a_schedule_that_would_leave_nothing_visible_is_refused_before_training():
    for start, end in ((0.1, 0.7), (0.7, 0.1)):
        masker = RatioSchedule(dict(type='ThrowingMasker'), start=start, end=end, epochs=3)
        with pytest.raises(UsageError, match='hides 44 of 64 patches and throws 26, so none is visible: lower'):
            masker.check_grid(64)


def test_scores_are_kept_from_the_first_epoch_that_asks_for_them(monkeypatch):
    """AMT's schedule: some epochs as MAE, in which no pass over the images is made for scores that nobody reads."""
    late = dict(type='ThrowingMasker', ratio=0.25, throw=0.25)
    phases = [(0, dict(type='RandomMasker', ratio=0.5)), (3, late), (5, None), (7, late)]
    model = build('MAE', masker=dict(type='MaskerSchedule', phases=phases), guide=dict(type='cached', every=4))
    assert epochs_with_new_scores(model, 9, torch.ones(1, 4, 4), monkeypatch) == [3, 4, 8]
    assert RatioSchedule(late, 0.1, 0.3, 4).needs_scores_in(0) and not ThrowingMasker(order='random').needs_scores_in(0)
