"""Parameters of the photometric augmentation of a view, drawn by a data loader worker and applied there or later.

The implementations on the CPU (:mod:`mstkit.datasets.image_photometric`) and on the device
(:mod:`mstkit.models.data_preprocessors`) take the same parameters and give the same view. Both build their blur from
:func:`box_kernels`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

# The parts of the color jitter, in the order in which ViewParameters.order numbers them.
JITTER = ('brightness', 'contrast', 'saturation', 'hue')
NO_SOLARIZATION = 256  # no value of an image reaches it

# Columns of ViewParameters.row().
FLIP, ORDER, FACTORS, GRAY, BLUR, SOLARIZE = 0, slice(1, 5), slice(5, 9), 9, 10, 11
WIDTH = 12


class ViewParameters(NamedTuple):
    """Augmentation parameters of one view, in the order of application; the defaults change nothing.

    Attributes:
        flip: mirror left and right.
        order: the jitter operations to apply, as indices into :data:`JITTER`, in order.
        brightness, contrast, saturation: factors, 1 for no change.
        hue: hue shift as a fraction of the color circle, in [-0.5, 0.5].
        gray: conversion to gray.
        blur: sigma of the Gaussian blur in pixels; 0 for none.
        solarize: values from this one on are inverted.
    """

    flip: bool = False
    order: tuple[int, ...] = ()
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0
    gray: bool = False
    blur: float = 0.0
    solarize: int = NO_SOLARIZATION

    def row(self) -> list[float]:
        """The parameters as :data:`WIDTH` numbers, for a tensor; unused entries of the order are -1."""
        order = [*self.order, *(-1 for _ in range(len(JITTER) - len(self.order)))]
        factors = (self.brightness, self.contrast, self.saturation, self.hue)
        return [float(self.flip), *order, *factors, float(self.gray), self.blur, float(self.solarize)]


def boxes(sigmas: np.ndarray, passes: int) -> np.ndarray:
    """Box filters that, applied ``passes`` times, have exactly the variance sigma squared; (N, odd), of sum 1."""
    variance = np.square(sigmas, dtype=np.float64)[:, None] / passes
    half = np.floor((np.sqrt(12 * variance + 1) - 1) / 2)
    edge = (2 * half + 1) * (half * (half + 1) - 3 * variance) / (6 * (variance - (half + 1) ** 2))
    reach = int(half.max()) + 1
    distance = np.abs(np.arange(-reach, reach + 1))
    box = np.where(distance <= half, 1.0, np.where(distance == half + 1, edge, 0.0))
    return box / box.sum(axis=1, keepdims=True)


def blur_kernel(sigma: float, passes: int = 3) -> np.ndarray:
    """The kernel of :func:`box_kernels` for one sigma, (K,) float64: the same numbers in a third of the time."""
    variance = sigma * sigma / passes
    half = float(math.floor((math.sqrt(12 * variance + 1) - 1) / 2))
    edge = (2 * half + 1) * (half * (half + 1) - 3 * variance) / (6 * (variance - (half + 1) ** 2))
    box = np.array([edge, *(1.0 for _ in range(2 * int(half) + 1)), edge])
    box = box / box.sum()
    kernel = box
    for _ in range(passes - 1):
        kernel = np.convolve(kernel, box)
    return kernel


def box_kernels(sigmas: np.ndarray, passes: int = 3) -> np.ndarray:
    """Kernels of repeated box filters whose variance is exactly sigma squared, as in Pillow's Gaussian blur.

    A Gaussian sampled at whole pixels has almost no effect for a sigma below 0.4 pixels, as used for small views.
    Source: Gwosdek et al., extended box filtering (SSVM 2011).

    Args:
        sigmas: (N,), in pixels, above 0.
        passes: how often the box is applied.

    Returns:
        (N, K) float64, each row a symmetric kernel of sum 1; K is odd and fits the largest sigma.
    """
    box = boxes(sigmas, passes)
    kernels = box
    for _ in range(passes - 1):
        if len(box) == 1:
            kernels = np.convolve(kernels[0], box[0])[None]
            continue
        wider = np.zeros((len(box), kernels.shape[1] + box.shape[1] - 1))
        for place in range(box.shape[1]):
            wider[:, place : place + kernels.shape[1]] += box[:, place : place + 1] * kernels
        kernels = wider
    return kernels
