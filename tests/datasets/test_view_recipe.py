"""What is drawn for a view: always the same numbers in the same order, distributed as torchvision's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from torchvision.transforms import ColorJitter

from mstkit.datasets import MultiCrop, SampleKey
from mstkit.datasets.image_photometric import apply_parameters
from mstkit.datasets.view_recipe import ViewRecipe
from mstkit.utils.view_parameters import (
    BLUR,
    FACTORS,
    FLIP,
    GRAY,
    JITTER,
    NO_SOLARIZATION,
    ORDER,
    SOLARIZE,
    WIDTH,
    ViewParameters,
)

DRAWS = 3000


def transcript(recipe: ViewRecipe, generator: np.random.Generator) -> ViewParameters:
    """The draws of the first version, one after the other; a change of their order changes every view."""
    values: dict = dict(flip=generator.random() < recipe.flip, order=())
    if generator.random() < recipe.jitter:
        order = [int(part) for part in generator.permutation(4)]
        for part in order:
            strength = (recipe.brightness, recipe.contrast, recipe.saturation, recipe.hue)[part]
            if not strength:
                continue
            low, high = (-strength, strength) if part == 3 else (max(0.0, 1 - strength), 1 + strength)
            values[JITTER[part]] = generator.uniform(low, high)
            values['order'] += (part,)
    values['gray'] = generator.random() < recipe.gray
    values['blur'] = generator.uniform(*recipe.blur_sigma) if generator.random() < recipe.blur else 0.0
    values['solarize'] = recipe.solarize_threshold if generator.random() < recipe.solarize else NO_SOLARIZATION
    return ViewParameters(**values)


@pytest.mark.parametrize(
    'settings',
    [dict(), dict(solarize=0.5, blur=1.0), dict(contrast=0.0, hue=0.5), dict(brightness=1.7, flip=1.0, gray=0.5)],
    ids=str,
)
def test_the_draws_keep_their_order(settings):
    recipe = ViewRecipe(**settings)
    for index in range(200):
        generator, other = (SampleKey(index, 2).generator('view 0') for _ in range(2))
        assert recipe.draw(generator) == transcript(recipe, other)
        assert generator.random() == other.random()  # and no draw more


def test_to_apply_is_to_draw_and_to_do():
    image = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    recipe = ViewRecipe(solarize=0.5)
    for index in range(30):
        drawn = recipe.draw(SampleKey(index).generator())
        np.testing.assert_array_equal(
            recipe.apply(image, SampleKey(index).generator()), apply_parameters(image, drawn), strict=True
        )
    np.testing.assert_array_equal(apply_parameters(image, ViewParameters()), image)


def test_rows():
    drawn = ViewParameters(True, (3, 0), brightness=1.25, hue=-0.125, gray=True, blur=0.5, solarize=128)
    row = np.array(drawn.row(), np.float32)
    assert len(row) == WIDTH
    assert (row[FLIP], row[GRAY], row[BLUR], row[SOLARIZE]) == (1, 1, 0.5, 128)
    assert row[ORDER].tolist() == [3, 0, -1, -1] and row[FACTORS].tolist() == [1.25, 1, 1, -0.125]


@pytest.fixture(scope='module')
def drawn() -> list[ViewParameters]:
    recipe = ViewRecipe(jitter=1.0, blur=1.0)
    return [recipe.draw(SampleKey(index).generator('view 0')) for index in range(DRAWS)]


@pytest.fixture(scope='module')
def theirs() -> list[tuple]:
    jitter = ColorJitter(0.4, 0.4, 0.2, 0.1)
    torch.manual_seed(0)
    return [jitter.get_params(jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue) for _ in range(DRAWS)]


@pytest.mark.parametrize('part', range(4))
def test_factors_and_orders_are_torchvisions(drawn, theirs, part):
    ours = [getattr(one, JITTER[part]) for one in drawn]
    assert ks_2samp(ours, [one[1 + part] for one in theirs], method='asymp').pvalue > 1e-3
    places = [one.order.index(part) for one in drawn]
    expected = [one[0].tolist().index(part) for one in theirs]
    assert np.abs(np.bincount(places, minlength=4) - np.bincount(expected, minlength=4)).max() < 0.06 * DRAWS


def test_blur_radii_are_dinos(drawn):
    """Uniform in [0.1, 2.0], as random.uniform in its published code."""
    expected = np.random.default_rng(1).uniform(0.1, 2.0, DRAWS)
    assert ks_2samp([one.blur for one in drawn], expected, method='asymp').pvalue > 1e-3


def test_what_multi_crop_hands_on_is_what_it_would_do():
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    small = dict(global_crops=dict(size=32), local_crops=dict(size=16, count=3))
    for index in range(20):
        key = SampleKey(index, 1, 2)
        cpu = MultiCrop(**small)(dict(img=image, sample_idx=key))
        device = MultiCrop(**small, photometric='device')(dict(img=image, sample_idx=key))
        assert 'photometric' not in cpu and device['photometric'].shape == (5, WIDTH)
        for row, plain, done in zip(device['photometric'], device['img'], cpu['img'], strict=True):
            order = tuple(int(part) for part in row[ORDER] if part >= 0)
            b, c, s, h = (float(value) for value in row[FACTORS])
            drawn = ViewParameters(
                row[FLIP] > 0, order, b, c, s, h, row[GRAY] > 0, float(row[BLUR]), int(row[SOLARIZE])
            )
            # float32 on the way: a table entry may round to the other side
            assert np.abs(apply_parameters(plain, drawn).astype(int) - done).mean() < 0.2
