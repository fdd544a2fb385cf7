"""Views: keyed, distinct, drawn as torchvision draws them, each by its own recipe."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as functional
from mmengine.dataset import BaseDataset, default_collate
from PIL import Image
from scipy.stats import ks_2samp
from torch.utils.data import DataLoader
from torchvision.transforms import RandomResizedCrop, Resize

from mstkit.datasets import CenterView, EpochSampler, MultiCrop, PackViews, SampleKey
from mstkit.datasets.multi_crop import draw_crop
from mstkit.datasets.view_recipe import ViewRecipe
from mstkit.errors import UsageError
from mstkit.utils.view_parameters import JITTER

PLAIN = dict(flip=0.0, jitter=0.0, gray=0.0, blur=0.0, solarize=0.0)
SMALL = dict(global_crops=dict(size=32), local_crops=dict(size=16, count=3))


def toy_image(height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def views(transform: MultiCrop, key: int, image: np.ndarray | None = None) -> list[np.ndarray]:
    return transform(dict(img=toy_image() if image is None else image, sample_idx=key))['img']


def test_shapes_and_order():
    made = views(MultiCrop(**SMALL), SampleKey(0))
    assert [view.shape for view in made] == [(32, 32, 3)] * 2 + [(16, 16, 3)] * 3
    assert all(view.dtype == np.uint8 for view in made)
    assert len(views(MultiCrop(local_crops=dict(count=0)), 0)) == 2
    assert [v.shape[0] for v in views(MultiCrop(), 0)] == [224] * 2 + [96] * 8


def test_same_key_same_views():
    transform, image = MultiCrop(**SMALL), toy_image()
    kept = image.copy()
    first = views(transform, SampleKey(3, 5, 7), image)
    np.random.seed(1)
    views(transform, SampleKey(4, 5, 7), image)
    for one, other in zip(first, views(MultiCrop(**SMALL), SampleKey(3, 5, 7), image), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(image, kept)
    for one, other in zip(views(transform, 3), views(transform, SampleKey(3, 0, 0)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_other_key_or_view_other_pixels():
    transform = MultiCrop(dict(size=32), dict(size=32, scale=(0.4, 1.0), count=3), dict(), dict())
    made = [
        view.tobytes()
        for key in (SampleKey(3, 5, 7), SampleKey(4, 5, 7), SampleKey(3, 6, 7), SampleKey(3, 5, 8))
        for view in views(transform, key)
    ]
    assert len(set(made)) == len(made) == 20


def test_global_views_do_not_depend_on_the_number_of_local_ones():
    few, many = (views(MultiCrop(dict(size=32), dict(size=16, count=n)), SampleKey(1)) for n in (1, 4))
    for one, other in zip(few, many, strict=False):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize('resize', ['pillow', 'torch'])
def test_a_plain_view_is_torchvisions_resized_crop(resize):
    transform = MultiCrop(**SMALL, global_recipes=PLAIN, local_recipe=PLAIN, resize=resize)
    image = toy_image()
    key = SampleKey(2, 1)
    for number, (view, (crop, _)) in enumerate(zip(views(transform, key, image), transform.views, strict=True)):
        left, top, w, h = draw_crop(48, 64, crop.scale, transform.ratio, key.generator(f'view {number}'))
        expected = functional.resized_crop(
            Image.fromarray(image), top, left, h, w, [crop.size] * 2, functional.InterpolationMode.BICUBIC
        )
        if resize == 'pillow':
            np.testing.assert_array_equal(view, np.asarray(expected))
        else:  # rounds a value to the other side now and then
            np.testing.assert_allclose(view.astype(int), np.asarray(expected).astype(int), rtol=0, atol=1)


@pytest.mark.parametrize('scale', [(0.4, 1.0), (0.05, 0.4)])
@pytest.mark.parametrize('shape', [(48, 64), (40, 120)])
def test_crops_are_distributed_as_torchvisions(shape, scale):
    height, width = shape
    ratio = (3 / 4, 4 / 3)
    generator = np.random.default_rng(0)
    ours = np.array([draw_crop(height, width, scale, ratio, generator) for _ in range(4000)], float)
    torch.manual_seed(0)
    image = torch.zeros(3, height, width)
    theirs = np.array([RandomResizedCrop.get_params(image, scale, ratio) for _ in range(4000)], float)
    theirs = theirs[:, [1, 0, 3, 2]]  # top, left, height, width
    assert (ours[:, 0] + ours[:, 2] <= width).all() and (ours[:, 1] + ours[:, 3] <= height).all()
    for measure in (
        lambda box: box[:, 2] * box[:, 3],
        lambda box: box[:, 2] / box[:, 3],
        lambda box: box[:, 0],
        lambda box: box[:, 1],
    ):
        assert ks_2samp(measure(ours), measure(theirs), method='asymp').pvalue > 1e-3


@pytest.mark.parametrize('shape', [(1, 1), (2, 3), (1, 200), (300, 1), (4, 40)])
def test_images_of_any_shape(shape):
    made = views(MultiCrop(**SMALL), SampleKey(0), toy_image(*shape))
    assert [view.shape for view in made] == [(32, 32, 3)] * 2 + [(16, 16, 3)] * 3
    left, top, w, h = draw_crop(shape[0], shape[1], (0.9, 1.0), (3 / 4, 4 / 3), np.random.default_rng(0))
    assert w >= 1 and h >= 1 and left >= 0 and top >= 0 and left + w <= shape[1] and top + h <= shape[0]


def test_the_default_recipe_is_dinos():
    recipes = [recipe for _, recipe in MultiCrop().views]
    assert [(r.blur, r.solarize) for r in recipes] == [(1.0, 0.0), (0.1, 0.2)] + [(0.5, 0.0)] * 8
    for r in recipes:
        assert (r.flip, r.jitter, r.gray) == (0.5, 0.8, 0.2)
        assert (r.brightness, r.contrast, r.saturation, r.hue) == (0.4, 0.4, 0.2, 0.1)
        assert tuple(r.blur_sigma) == (0.1, 2.0) and r.solarize_threshold == 128
    crops = [(c.size, c.scale, c.count) for c in (MultiCrop().global_crops, MultiCrop().local_crops)]
    assert crops == [(224, (0.4, 1.0), 2), (96, (0.05, 0.4), 8)]


@pytest.mark.parametrize('name', ['flip', 'jitter', 'gray', 'blur', 'solarize'])
@pytest.mark.parametrize('probability', [0.0, 0.2, 0.5, 1.0])
def test_probabilities(name, probability):
    recipe = ViewRecipe(**PLAIN | {name: probability, 'blur_sigma': (1.0, 2.0)})
    image = toy_image(16, 16)
    count = 1500
    changed = sum(bool((recipe.apply(image, SampleKey(i).generator()) != image).any()) for i in range(count))
    assert abs(changed / count - probability) <= 4 * np.sqrt(probability * (1 - probability) / count)


def test_jitter_draws_its_factors_from_the_whole_range():
    gray = np.full((4, 4, 3), 100, np.uint8)
    only = PLAIN | dict(jitter=1.0, brightness=0.4, contrast=0.0, saturation=0.0, hue=0.0)
    levels = np.array(
        [ViewRecipe(**only).apply(gray, SampleKey(i).generator())[0, 0, 0] for i in range(2000)], np.float64
    )
    assert 60 <= levels.min() <= 62 and 138 <= levels.max() <= 140
    assert abs(levels.mean() - 99.5) < 2 and abs(levels.std() - 80 / np.sqrt(12)) < 1


def test_views_share_no_randomness():
    """The flips of two views of a sample are independent."""
    flip = PLAIN | dict(flip=0.5)
    transform = MultiCrop(dict(size=8, scale=(1.0, 1.0)), dict(count=0), flip, ratio=(1.0, 1.0))
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, 4:] = 255
    flips = np.array([[view[0, 0, 0] > 128 for view in views(transform, i, image)] for i in range(2000)], float)
    assert np.abs(flips.mean(0) - 0.5).max() < 0.045
    assert abs(np.corrcoef(flips.T)[0, 1]) < 0.09


class Images(BaseDataset):
    def load_data_list(self):
        return [dict(img=toy_image(seed=i), gt_label=i % 3) for i in range(10)]


def test_workers_do_not_matter():
    dataset = Images(pipeline=[MultiCrop(**SMALL), PackViews()])
    batches = []
    for workers in (0, 2):
        sampler = EpochSampler(dataset, seed=2)
        sampler.set_epoch(1)
        loader: DataLoader[Any] = DataLoader(
            dataset, 4, sampler=sampler, num_workers=workers, collate_fn=default_collate
        )
        batches.append(list(loader))
    assert len(batches[0]) == 3
    for one, other in zip(*batches, strict=True):
        assert [tuple(view.shape[1:]) for view in one['inputs']] == [(3, 32, 32)] * 2 + [(3, 16, 16)] * 3
        for a, b in zip(one['inputs'], other['inputs'], strict=True):
            assert a.dtype == torch.uint8 and torch.equal(a, b)
        for a, b in zip(one['data_samples'], other['data_samples'], strict=True):
            assert a.sample_idx == b.sample_idx and b.sample_idx.epoch == 1 and b.sample_idx.seed == 2
            assert a.gt_label.item() == a.sample_idx % 3


def test_pack_views():
    image = toy_image()
    packed = PackViews()(dict(img=image, gt_label=2, img_path='a.png', sample_idx=SampleKey(1), replaced=['b.png']))
    assert packed['inputs'].is_contiguous()
    np.testing.assert_array_equal(packed['inputs'].permute(1, 2, 0).numpy(), image)
    sample = packed['data_samples']
    assert sample.gt_label.tolist() == [2] and sample.img_path == 'a.png' and sample.replaced == ['b.png']
    packed['inputs'].zero_()
    assert image.any()
    assert 'gt_label' not in PackViews()(dict(img=[image, image]))['data_samples']
    for other in (image[:, ::-1], image[::2, 1::3], image.astype(np.float32) / 3, image[..., :1]):
        np.testing.assert_array_equal(
            PackViews()(dict(img=other))['inputs'].permute(1, 2, 0).numpy(), other, strict=True
        )


@pytest.mark.parametrize('side', [1, 32, 111, 112, 113, 224])
def test_planes_are_packed_alike_at_every_size(side):
    image = np.random.default_rng(side).integers(0, 256, (side, side, 3), np.uint8)
    packed = PackViews()(dict(img=image))['inputs']
    assert packed.is_contiguous() and packed.dtype == torch.uint8
    np.testing.assert_array_equal(packed.numpy(), image.transpose(2, 0, 1))
    packed.zero_()
    assert image.any()


def test_draws_are_those_of_numpys_own_functions():
    for index in range(50):
        key = SampleKey(index, epoch=3, seed=1)
        recipe, generator = ViewRecipe(flip=0.3, solarize=0.4), key.generator('x')
        drawn = recipe.draw(key.generator('x'))
        assert drawn.flip == (generator.random() < 0.3)
        factors = {}
        if generator.random() < 0.8:
            for part in generator.permutation(4):
                low, high = [(0.6, 1.4), (0.6, 1.4), (0.8, 1.2), (-0.1, 0.1)][part]
                factors[['brightness', 'contrast', 'saturation', 'hue'][part]] = generator.uniform(low, high)
        assert [JITTER[part] for part in drawn.order] == list(factors)
        assert {name: getattr(drawn, name) for name in factors} == pytest.approx(factors, rel=1e-15)
        assert drawn.gray == (generator.random() < 0.2)
        assert (drawn.blur > 0) == (generator.random() < 0.5)
        assert drawn.blur == pytest.approx(generator.uniform(0.1, 2.0) if drawn.blur else 0, rel=1e-15)
        assert drawn.solarize == (128 if generator.random() < 0.4 else 256)


def test_a_single_view_is_packed_as_an_image():
    image = toy_image()
    crop = MultiCrop(global_crops=dict(size=16, count=1), local_crops=dict(count=0), global_recipes={})
    views = crop(dict(img=image, sample_idx=SampleKey(1)))
    (listed,) = PackViews()(dict(views))['inputs']
    for results in (views, dict(img=listed.permute(1, 2, 0).numpy())):
        assert torch.equal(PackViews(single=True)(dict(results))['inputs'], listed)
    with pytest.raises(UsageError, match=r'2 views: set global_crops\.count=1'):
        PackViews(single=True)(dict(img=[image, image]))


@pytest.mark.parametrize('shape', [(300, 400), (401, 300), (256, 256), (20, 30), (33, 97)])
def test_center_view_is_torchvisions(shape):
    image = toy_image(*shape)
    results = CenterView(64, 56)(dict(img=image))
    resized = Resize(64, functional.InterpolationMode.BICUBIC)(Image.fromarray(image))
    np.testing.assert_array_equal(results['img'], np.asarray(functional.center_crop(resized, 56)))
    assert PackViews()(results)['inputs'].shape == (3, 56, 56)


@pytest.mark.parametrize(
    ('settings', 'words'),
    [
        (dict(global_crops=dict(size=0)), 'global_crops.size is 0'),
        (dict(global_crops=dict(size=224.5)), 'global_crops.size is 224.5'),
        (dict(global_crops=dict(count=0)), 'count is 0'),
        (dict(local_crops=dict(count=-1)), 'count is -1'),
        (dict(local_crops=dict(scale=(0.4, 0.05))), 'smaller number first'),
        (dict(local_crops=dict(scale=(0.0, 0.4))), 'above 0'),
        (dict(local_crops=dict(scale=0.4)), 'two numbers'),
        (dict(global_crops=dict(scale=(0.4, 1.5))), '1.5'),
        (dict(global_crops=dict(scales=(0.4, 1.0))), 'Did you mean scale'),
        (dict(global_crops=224), 'give a dict'),
        (dict(global_recipes=[dict(), dict(), dict()]), '3 global_recipes for 2'),
        (dict(global_crops=dict(count=3)), '2 global_recipes for 3'),
        (dict(global_recipes=dict(blurr=1.0)), 'Did you mean blur'),
        (dict(global_recipes=dict(flip=1.5)), 'flip is 1.5'),
        (dict(local_recipe=dict(jitter='often')), "jitter is 'often'"),
        (dict(local_recipe=dict(hue=0.6)), 'hue is 0.6'),
        (dict(local_recipe=dict(solarize_threshold=300)), '300'),
        (dict(blur_sigma=(2.0, 0.1)), 'smaller number first'),
        (dict(blur_sigma=(0.0, 0.1)), 'above 0'),
        (dict(ratio=(0, 1)), 'above 0'),
    ],
)
def test_mistakes_in_multi_crop(settings, words):
    with pytest.raises(UsageError, match=words):
        MultiCrop(**settings)


def test_other_mistakes():
    with pytest.raises(UsageError, match='must not exceed'):
        CenterView(resize=64, crop=65)
    with pytest.raises(UsageError, match='sample_idx'):
        MultiCrop()(dict(img=toy_image()))


@pytest.mark.parametrize('flip', [0.0, 1.0])
def test_pixel_shift_gives_windows_of_one_crop(flip):
    """CMAE's: the first view a corner, the second moved by whole pixels, both mirrored alike, colors of their own."""
    plain = {**PLAIN, 'flip': flip}
    crops = dict(global_crops=dict(size=16, scale=(0.3, 0.9)), local_crops=dict(count=0), global_recipes=plain)
    shifted, whole = MultiCrop(**crops, pixel_shift=5, boxes=True), MultiCrop(**crops)
    moved = set()
    for number in range(60):
        image = toy_image(seed=number)
        box = whole._draw(SampleKey(number), *image.shape[:2])[0].box
        master = whole._resize(image, box, 21, 'bicubic')
        results = shifted(dict(img=image, sample_idx=SampleKey(number)))
        first, second = (np.flip(view, 1) if flip else view for view in results['img'])
        assert np.array_equal(first, master[:16, :16])
        places = [(x, y) for x in range(6) for y in range(6) if np.array_equal(second, master[y : y + 16, x : x + 16])]
        assert len(places) == 1
        moved.update(places)
        (x, y), (left, top, width, height) = places[0], box
        expected = [(left + width * x / 21) / 64, (top + height * y / 21) / 48, width / 64 * 16 / 21]
        assert results['view_boxes'][1] == pytest.approx([*expected, height / 48 * 16 / 21, flip])
    assert {x for x, _ in moved} == {y for _, y in moved} == set(range(6)), 'every shift, of both axes by itself'
    assert len(moved) > 20


def test_pixel_shift_leaves_colors_and_local_views_alone():
    recipes = [PLAIN, dict(PLAIN, jitter=1.0)]
    common = dict(global_crops=dict(size=32), local_crops=dict(size=16, count=2), global_recipes=recipes)
    made, without = (views(MultiCrop(**common, **shift), SampleKey(3)) for shift in (dict(pixel_shift=0), {}))
    assert np.array_equal(made[0], without[0]) and all(map(np.array_equal, made[2:], without[2:]))
    assert not np.array_equal(made[0], made[1])
    with pytest.raises(UsageError, match=r'MultiCrop\.pixel_shift is -1'):
        MultiCrop(pixel_shift=-1)
