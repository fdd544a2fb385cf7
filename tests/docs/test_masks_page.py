"""What docs/en/masks.md says of the maskers is so."""

from __future__ import annotations

import inspect

import pytest
import torch

from mstkit.analysis import draw_with
from mstkit.analysis.mask_table import COLUMNS, THROWN
from mstkit.engine.launch.launch import load_config, read_config
from mstkit.models import maskers
from mstkit.models.maskers import build_masker
from mstkit.registry import MODELS
from mstkit.structures import MaskContext

from .pages import ROOT, rows, text_of

PAGE = 'masks.md'
COMPOSED = {'MaskerSchedule', 'RatioSchedule', 'ShuffledMasker'}  # have sections of their own


def seen(images: int = 400, side: int = 14) -> MaskContext:
    generator = torch.Generator().manual_seed(0)
    attention = torch.rand(images, 2, side * side, generator=generator)
    of_patches = torch.randn(images, side * side, 6, generator=generator)
    return MaskContext(torch.zeros(images, 3, 1, 1), (side, side), of_patches, attention)


def test_the_named_strategies_are_those_of_the_choices():
    choices = read_config(ROOT / 'configs' / '_base_' / 'ablation_choices.py')['choices']['model.masker']
    documented = {row[0].strip('`'): row for row in rows(PAGE, 'name')}
    assert list(documented) == list(choices)
    for name, masker in choices.items():
        assert documented[name][1].strip('`') == ('None' if masker is None else masker['type'])
        built = build_masker(masker)
        needs = 'no'
        if built is not None and built.needs_tokens:
            needs = 'tokens and yes' if built.needs_scores else 'tokens'
        elif built is not None and built.needs_scores:
            needs = 'yes'
        assert documented[name][3] == needs, name


def test_arguments_and_defaults():
    documented: dict[str, dict[str, object]] = {}
    for masker, argument, default, _ in rows(PAGE, 'masker | argument'):
        documented.setdefault(masker.strip('`'), {})[argument.strip('`')] = eval(default.strip('`'))
    high = documented['AttMaskHigh']
    documented['AttMaskLow'] = high
    documented['AttMaskHint'] |= high
    assert set(documented) == {name for name in maskers.__all__ if name in MODELS.module_dict} - COMPOSED
    for name, arguments in documented.items():
        parameters = inspect.signature(MODELS.get(name)).parameters.values()
        assert {parameter.name: parameter.default for parameter in parameters} == arguments, name


@pytest.mark.parametrize(
    ('config', 'share'),
    [
        (dict(type='RandomMasker', prob=0.2), 0.2),
        (dict(type='RandomMasker', ratio=(0.1, 0.5)), 0.3),
        (dict(type='BlockMasker', ratio=(0.1, 0.5), image_prob=1.0), 0.3),
        (dict(type='InverseBlockMasker', ratio=(0.5, 0.8), image_prob=0.5), 0.325),
        (dict(type='ColorNoiseMasker', ratio=0.75, color='blue'), 0.75),
        (dict(type='InverseMultiBlockMasker', ratio=0.8), 0.8),
        (dict(type='MultiBlockMasker'), 0.54),
        (dict(type='UniformMasker', secondary=0.5), 0.875),
        (dict(type='AttentionGuidedMasker', num=4, prob=0.5), 0.125),
        (dict(type='AttMaskHigh', ratio=0.3, image_prob=0.5), 0.15),
        (dict(type='AttMaskLow', ratio=0.3, image_prob=1.0), 0.3),
        (dict(type='MultinomialMasker', ratio=(0.1, 0.5)), 0.3),
        (dict(type='MultinomialMasker', ratio=0.4, image_prob=0.5, direction='least', drawn='visible'), 0.2),
        (dict(type='TopShareMasker', ratio=(0.3, 0.5)), 0.4),
        (dict(type='PreferenceMasker', ratio=(0.3, 0.5)), 0.4),
        (dict(type='PartMasker', ratio=(0.3, 0.5), image_prob=0.5), 0.2),
        (dict(type='ObjectMasker', ratio=(0.3, 0.5)), 0.4),
        (dict(type='ThrowingMasker', ratio=(0.3, 0.5)), 0.4),
        (dict(type='AttMaskHint', ratio=0.5, image_prob=1.0, show_max=0.2), 0.4),
    ],
)
def test_mean_shares(config, share):
    masks = draw_with(MODELS.build(config), seen(), seed=0, iteration=0)
    assert masks.float().mean().item() == pytest.approx(share, rel=0.12)


def test_how_often_chance_leaves_a_image_whole():
    masker = MODELS.build(dict(type='AttentionGuidedMasker', num=8, prob=0.10))
    masks = draw_with(masker, seen(4000, side=8), seed=0, iteration=0)
    whole = 1 - masks.flatten(1).any(dim=1).float().mean().item()
    assert whole == pytest.approx(0.9**8, abs=0.02)
    assert f'{100 * 0.9**8:.0f} % of them on an 8×8 grid' in text_of(ROOT / 'docs' / 'en' / PAGE)


def test_the_schedules_in_the_page(inside):
    late, _ = load_config('configs/mst/mst_vit-tiny_folder_late-attmask.py', data_root='DIR')
    masker = MODELS.build(late.model.masker)
    amounts = [draw_with(masker, seen(50), 0, 0, epoch).any().item() for epoch in (0, 9, 10, 90)]
    assert amounts == [False, False, True, True]
    assert masker.current.ratio == (0.1, 0.3)
    growing, _ = load_config('configs/mst/mst_vit-tiny_folder_growing-blocks.py', data_root='DIR')
    masker = MODELS.build(growing.model.masker)
    found = [draw_with(masker, seen(50), 0, 0, epoch).float().mean().item() for epoch in (0, 20, 40, 90)]
    assert found == pytest.approx([0.1, 0.3, 0.5, 0.5], abs=0.01)


def test_the_columns_of_the_table():
    assert [row[0] for row in rows(PAGE, 'column')] == [heading for heading, _ in (COLUMNS | THROWN).values()]
