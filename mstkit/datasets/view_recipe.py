"""Photometric augmentation of a view: flip, color jitter, gray, blur, solarization, each with its probability."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mstkit.datasets.image_photometric import apply_parameters
from mstkit.datasets.sampling import uniform
from mstkit.utils.checks import check_count, check_number, check_range
from mstkit.utils.view_parameters import JITTER, NO_SOLARIZATION, ViewParameters


@dataclass(frozen=True)
class ViewRecipe:
    """Settings of the photometric augmentation of a view, in the order of application; defaults as in DINO.

    ``flip``, ``jitter``, ``gray``, ``blur`` and ``solarize`` are probabilities.

    Attributes:
        where: name of the setting, for messages.
        flip: horizontal flip.
        jitter: color jitter; its four operations are applied in random order.
        brightness, contrast, saturation: x; factors are uniform in [max(0, 1 - x), 1 + x].
        hue: x; the hue shift, as a fraction of the color circle, is uniform in [-x, x]; at most 0.5.
        gray: conversion to gray.
        blur: Gaussian blur.
        blur_sigma: its sigma in pixels, uniform in this range, which suits 224 px; use less for smaller views.
        solarize: inversion of bright values.
        solarize_threshold: values at or above this are inverted.
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
        check_range(f'{self.where}.blur_sigma', self.blur_sigma, above=0)
        check_count(f'{self.where}.solarize_threshold', self.solarize_threshold, 0, 256)

    def draw(self, generator: np.random.Generator) -> ViewParameters:
        """Draws the augmentation parameters of one view.

        Args:
            generator: random generator.
        """
        flip = generator.random() < self.flip
        factors: dict[str, float] = {}
        if generator.random() < self.jitter:
            factors = self._draw_jitter(generator)
        gray = generator.random() < self.gray
        blur = uniform(generator, *self.blur_sigma) if generator.random() < self.blur else 0.0
        solarize = self.solarize_threshold if generator.random() < self.solarize else NO_SOLARIZATION
        order = tuple(JITTER.index(part) for part in factors)
        return ViewParameters(flip, order, **factors, gray=gray, blur=blur, solarize=solarize)

    def _draw_jitter(self, generator: np.random.Generator) -> dict[str, float]:
        """The factors of the jitter's operations, in the order of application."""
        factors = {}
        for part in generator.permutation(len(JITTER)).tolist():
            name = JITTER[part]
            strength = getattr(self, name)
            if strength:
                low, high = (-strength, strength) if name == 'hue' else (max(0.0, 1.0 - strength), 1.0 + strength)
                factors[name] = uniform(generator, low, high)
        return factors

    def apply(self, image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Draws parameters and applies them.

        Args:
            image: (H, W, 3) uint8 RGB; not changed.
            generator: random generator.

        Returns:
            (H, W, 3) uint8 RGB.
        """
        return apply_parameters(image, self.draw(generator))
