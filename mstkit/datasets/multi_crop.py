"""Views of one image for self-distillation: a few large global crops and many small local ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from mmcv.transforms import BaseTransform

from mstkit.datasets.crop_resizing import INTERPOLATION, RESIZE, Box
from mstkit.datasets.image_photometric import apply_parameters
from mstkit.datasets.lazy_image import LazyImage, largest_step
from mstkit.datasets.sampling import SampleKey, uniform
from mstkit.datasets.view_recipe import ViewRecipe
from mstkit.errors import UsageError
from mstkit.registry import TRANSFORMS
from mstkit.utils.checks import check_count, check_flag, check_one_of, check_range, settings_from
from mstkit.utils.view_parameters import ViewParameters

# DINO's two global views differ: the first is always blurred, the second sometimes solarized.
DINO_GLOBAL_RECIPES = (dict(blur=1.0, solarize=0.0), dict(blur=0.1, solarize=0.2))
PHOTOMETRIC = ('cpu', 'device')
# A file is decoded at a reduced size only if the sides of each crop keep at least this many pixels per pixel of the
# view, so that the resize filter still does most of the smoothing and no crop is enlarged.
SCALED_GAP = 2


@dataclass(frozen=True)
class CropSettings:
    """A kind of crop.

    Attributes:
        where: name of the setting, for messages.
        size: side of the view in pixels.
        scale: area of a crop relative to the image, (smallest, largest).
        count: views of this kind per image.
    """

    where: str
    size: int
    scale: tuple[float, float]
    count: int

    def __post_init__(self) -> None:
        check_count(f'{self.where}.size', self.size, 1)
        check_count(f'{self.where}.count', self.count, 0)
        check_range(f'{self.where}.scale', self.scale, high=1, above=0)


class DrawnView(NamedTuple):
    """What was drawn for a view.

    Attributes:
        box: the crop, in pixels of the image.
        resized: side in pixels to which it is resized.
        size: side of the view, a window of the resized crop.
        parameters: of the photometric augmentation.
        corner: (left, top) of the window, in pixels of the resized crop.
    """

    box: Box
    resized: int
    size: int
    parameters: ViewParameters
    corner: tuple[int, int] = (0, 0)

    def window(self, crop: np.ndarray) -> np.ndarray:
        """The view, cut from the resized crop (resized, resized, 3)."""
        left, top = self.corner
        return crop if self.resized == self.size else crop[top : top + self.size, left : left + self.size].copy()

    def place(self, height: int, width: int) -> list[float]:
        """Left, top, width, height of the view as shares of the image's sides in pixels; 1.0 if it is mirrored."""
        (left, top, w, h), (x, y), share = self.box, self.corner, self.size / self.resized
        first, upper = left + w * x / self.resized, top + h * y / self.resized
        return [first / width, upper / height, w * share / width, h * share / height, float(self.parameters.flip)]


def draw_crop(
    height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float], generator: np.random.Generator
) -> Box:
    """Draws a box as torchvision's RandomResizedCrop does.

    The area is uniform in ``scale``, the aspect ratio log-uniform in ``ratio``; after ten boxes that do not fit into
    the image, the largest central box within ``ratio``.

    Args:
        height, width: of the image, in pixels.
        scale: area relative to the image, (smallest, largest).
        ratio: width/height, (smallest, largest).
        generator: random generator.

    Returns:
        left, top, width, height in pixels.
    """
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for _ in range(10):
        area = height * width * uniform(generator, *scale)
        aspect = math.exp(uniform(generator, low, high))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top, left = generator.integers(height - h + 1), generator.integers(width - w + 1)
            return int(left), int(top), w, h
    w, h = width, height
    if width / height < ratio[0]:
        h = min(height, max(1, round(width / ratio[0])))
    elif width / height > ratio[1]:
        w = min(width, max(1, round(height * ratio[1])))
    return (width - w) // 2, (height - h) // 2, w, h


def scale_box(box: Box, step: int, height: int, width: int) -> Box:
    """Converts a box of the whole image to the image decoded at 1/``step`` of its size, ``height`` x ``width`` px."""
    left, top, w, h = box
    right, bottom = min(round((left + w) / step), width), min(round((top + h) / step), height)
    left, top = round(left / step), round(top / step)
    return left, top, right - left, bottom - top


@TRANSFORMS.register_module()
class MultiCrop(BaseTransform):
    """Turns ``img`` into a list of views, by default with DINO's augmentation.

    A view is a random crop, resized with antialiased interpolation, then flipped and color-augmented by its recipe.
    All random draws are seeded by the key in ``sample_idx`` (:class:`SampleKey`), one stream per view: the same key
    gives the same views in any process. With a plain index instead of a key, views would be the same in every epoch, so
    train with :class:`EpochSampler`. Source: DINO, arXiv:2104.14294, section 4.2, and its published code.

    Args:
        global_crops: ``size``, ``scale``, ``count`` of the global views; defaults 224, (0.4, 1.0), 2.
        local_crops: likewise of the local views; defaults 96, (0.05, 0.4), 8. A count of 0 for no local views.
        global_recipes: a :class:`ViewRecipe` as a dict for each global view, or one for all. ``None`` for DINO's pair.
        local_recipe: the recipe of all local views. ``None`` for DINO's, which blurs with probability 0.5.
        ratio: width/height of the crops, (smallest, largest).
        blur_sigma: blur radius in pixels for recipes without ``blur_sigma``.
        photometric: where the recipes are applied: ``'cpu'``, in this transform; ``'device'``, on the whole batch by
            the model's :class:`ViewDataPreprocessor`. The random draws are the same.
        interpolation: ``'bicubic'``, as in DINO's pre-training, or ``'bilinear'``, as in MoBY and DINO's linear probe.
        resize: ``'torch'``, or ``'pillow'``, which takes five times as long (:mod:`mstkit.datasets.crop_resizing`).
        boxes: say of each view in ``view_boxes`` where in the image it is: left, top, width, height as shares of the
            image, and 1.0 where it is mirrored. A :class:`mstkit.models.CachedGuide` switches it on.
        pixel_shift: p, for global views of the same place (CMAE, arXiv 2207.13532). One crop is resized to
            ``size`` + p pixels; the first global view is its upper left corner, each other one is moved right and down
            by whole pixels, uniform in 0..p. They are mirrored alike; the rest of their recipes is their own. None
            for global views of a crop each.

    Raises:
        UsageError: a setting is unknown or out of range, or the number of recipes is not that of global views.
    """

    def __init__(
        self,
        global_crops: Mapping[str, Any] | None = None,
        local_crops: Mapping[str, Any] | None = None,
        global_recipes: Sequence[Mapping[str, Any]] | Mapping[str, Any] | None = None,
        local_recipe: Mapping[str, Any] | None = None,
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        blur_sigma: tuple[float, float] = (0.1, 2.0),
        photometric: str = 'cpu',
        interpolation: str = 'bicubic',
        resize: str = 'torch',
        boxes: bool = False,
        pixel_shift: int | None = None,
    ) -> None:
        self.global_crops = _crop_settings('global_crops', global_crops, dict(size=224, scale=(0.4, 1.0), count=2))
        self.local_crops = _crop_settings('local_crops', local_crops, dict(size=96, scale=(0.05, 0.4), count=8))
        check_count('MultiCrop.global_crops.count', self.global_crops.count, 1)
        self.ratio = check_range('MultiCrop.ratio', ratio, above=0)
        self.blur_sigma = check_range('MultiCrop.blur_sigma', blur_sigma, 0)
        self.photometric = check_one_of('MultiCrop.photometric', photometric, PHOTOMETRIC)
        self.interpolation = check_one_of('MultiCrop.interpolation', interpolation, INTERPOLATION)
        self.resize = check_one_of('MultiCrop.resize', resize, RESIZE)
        self._resize = RESIZE[resize]
        self.boxes = check_flag('MultiCrop.boxes', boxes)
        if pixel_shift is not None:
            check_count('MultiCrop.pixel_shift', pixel_shift, 0, self.global_crops.size)
        self.pixel_shift = pixel_shift

        recipes = [self._recipe(f'global_recipes[{i}]', r) for i, r in enumerate(self._spread(global_recipes))]
        local = self._recipe('local_recipe', {} if local_recipe is None else local_recipe)
        self.views = [(self.global_crops, recipe) for recipe in recipes]
        self.views += [(self.local_crops, local)] * self.local_crops.count

    def _spread(self, recipes: Sequence[Mapping[str, Any]] | Mapping[str, Any] | None) -> list[Any]:
        """One recipe per global view."""
        count = self.global_crops.count
        if isinstance(recipes, Mapping):
            return [recipes] * count
        given = list(DINO_GLOBAL_RECIPES[:count] if recipes is None else recipes)
        if len(given) == 1:
            return given * count
        if len(given) != count:
            raise UsageError(
                f'MultiCrop has {len(given)} global_recipes for {count} global views: '
                'give one for each, or one for all.'
            )
        return given

    def _recipe(self, name: str, values: Any) -> ViewRecipe:
        if isinstance(values, Mapping):
            values = {'blur_sigma': self.blur_sigma, **values}
        return settings_from(ViewRecipe, values, f'MultiCrop.{name}')

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Replaces ``img``, (H, W, 3) uint8, by a list of V arrays (size, size, 3) uint8: global views, then local.

        With ``photometric='device'`` it adds ``photometric``, (V, 12) float32: the rows of their
        :class:`ViewParameters`.
        """
        if 'sample_idx' not in results:
            raise UsageError("MultiCrop needs 'sample_idx' to seed its draws: use a data set based on mmengine's.")
        key = SampleKey.of(results['sample_idx'])
        image = results['img']
        height, width = image.shape[:2]
        drawn = self._draw(key, height, width)
        if self.boxes:
            results['view_boxes'] = [view.place(height, width) for view in drawn]
        boxes = [view.box for view in drawn]
        if isinstance(image, LazyImage):
            step = largest_step(min(min(view.box[2:]) / view.resized for view in drawn) / SCALED_GAP)
            image = image.read(step)
            boxes = [scale_box(box, step, *image.shape[:2]) for box in boxes] if step > 1 else boxes
        # Crop before resizing, as in torchvision: pixels beyond the crop have no influence, and fewer are processed.
        views = [
            view.window(self._resize(image, box, view.resized, self.interpolation))
            for view, box in zip(drawn, boxes, strict=True)
        ]
        if self.photometric == 'cpu':
            views = [apply_parameters(image, view.parameters) for image, view in zip(views, drawn, strict=True)]
        else:
            results['photometric'] = np.array([view.parameters.row() for view in drawn], np.float32)
        results['img'] = views
        return results

    def may_shrink(self, height: int, width: int) -> bool:
        """Whether an image of this size in pixels, read late (:class:`LazyImage`), may be decoded at a reduced size."""
        # The shorter side of a crop is at most the root of its area; half a pixel more by rounding.
        sides = (
            min(height, width, math.sqrt(crop.scale[1] * height * width) + 0.5) / crop.size for crop, _ in self.views
        )
        return largest_step(min(sides) / SCALED_GAP) > 1

    def _draw(self, key: SampleKey, height: int, width: int) -> list[DrawnView]:
        """Draws all views of an image of this size, in pixels."""
        drawn: list[DrawnView] = []
        for number, (crop, recipe) in enumerate(self.views):
            generator = key.kept_generator(f'view {number}')
            box = draw_crop(height, width, crop.scale, self.ratio, generator)
            view = DrawnView(box, crop.size, crop.size, recipe.draw(generator))
            if self.pixel_shift is not None and number < self.global_crops.count:
                view = view._replace(resized=crop.size + self.pixel_shift)
                if number:
                    left, top = (int(moved) for moved in generator.integers(self.pixel_shift + 1, size=2))
                    flipped = view.parameters._replace(flip=drawn[0].parameters.flip)
                    view = view._replace(box=drawn[0].box, parameters=flipped, corner=(left, top))
            drawn.append(view)
        return drawn

    def __repr__(self) -> str:
        kinds = (f'{c.count} of {c.size} px, scale {tuple(c.scale)}' for c in (self.global_crops, self.local_crops))
        return f'{type(self).__name__}(global {next(kinds)}; local {next(kinds)}; photometric on {self.photometric})'


def _crop_settings(name: str, given: Any, default: dict[str, Any]) -> CropSettings:
    if given is None or isinstance(given, Mapping):
        given = {**default, **(given or {})}
    return settings_from(CropSettings, given, f'MultiCrop.{name}')
