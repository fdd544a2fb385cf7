"""What happens to one view after it was cropped: flip, colour, blur, solarisation, each with its probability."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mstkit.datasets.argument_checks import check_count, check_number, check_range
from mstkit.datasets.photometric import (
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    flip_horizontally,
    gaussian_blur,
    solarize,
    to_grey,
)
from mstkit.errors import UsageError


@dataclass(frozen=True)
class ViewRecipe:
    """The photometric half of a view, in the order in which it is applied; the values are DINO's.

    ``flip``, ``jitter``, ``gray``, ``blur`` and ``solarize`` are probabilities.

    Attributes:
        where: where the user finds the recipe, for messages.
        flip: horizontal flip.
        jitter: colour jitter; its four parts then happen in random order.
        brightness, contrast, saturation: factors are uniform in [max(0, 1 - x), 1 + x].
        hue: turn of the colour circle, uniform in [-x, x]; at most 0.5.
        gray: conversion to grey.
        blur: Gaussian blur.
        blur_sigma: its radius in pixels, uniform between the two. Made for 224 px; smaller views want less.
        solarize: inversion of bright values.
        solarize_threshold: from which value on.
    """

    where: str = 'a view recipe'
    flip: float = 0.5
    jitter: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.2
    hue: float = 0.1
    gray: float = 0.2
    blur: float = 0.5
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarize: float = 0.0
    solarize_threshold: int = 128

    def __post_init__(self) -> None:
        for name in ('flip', 'jitter', 'gray', 'blur', 'solarize'):
            check_number(f'{self.where}.{name}', getattr(self, name), 0, 1)
        for name in ('brightness', 'contrast', 'saturation'):
            check_number(f'{self.where}.{name}', getattr(self, name), 0)
        check_number(f'{self.where}.hue', self.hue, 0, 0.5)
        low, _ = check_range(f'{self.where}.blur_sigma', self.blur_sigma, 0)
        if low == 0:
            raise UsageError(f'{self.where}.blur_sigma is {tuple(self.blur_sigma)!r}: give radii above 0.')
        if check_count(f'{self.where}.solarize_threshold', self.solarize_threshold, 0) > 256:
            raise UsageError(f'{self.where}.solarize_threshold is {self.solarize_threshold}: give a value in 0..256.')

    def apply(self, image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Draws what happens and does it.

        Args:
            image: (H, W, 3) uint8 RGB; not changed.
            generator: where every draw comes from.

        Returns:
            (H, W, 3) uint8 RGB.
        """
        if generator.random() < self.flip:
            image = flip_horizontally(image)
        if generator.random() < self.jitter:
            image = self._jitter(image, generator)
        if generator.random() < self.gray:
            image = to_grey(image)
        if generator.random() < self.blur:
            image = gaussian_blur(image, generator.uniform(*self.blur_sigma))
        if generator.random() < self.solarize:
            image = solarize(image, self.solarize_threshold)
        return image

    def _jitter(self, image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        for part in generator.permutation(4):
            if part == 0 and self.brightness:
                image = adjust_brightness(image, _factor(self.brightness, generator))
            elif part == 1 and self.contrast:
                image = adjust_contrast(image, _factor(self.contrast, generator))
            elif part == 2 and self.saturation:
                image = adjust_saturation(image, _factor(self.saturation, generator))
            elif part == 3 and self.hue:
                image = adjust_hue(image, generator.uniform(-self.hue, self.hue))
        return image


def _factor(strength: float, generator: np.random.Generator) -> float:
    return generator.uniform(max(0.0, 1.0 - strength), 1.0 + strength)
