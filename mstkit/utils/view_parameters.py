"""What is done to the colors of a view, as numbers: drawn by a worker of the data loader, applied there or later.

The CPU (:mod:`mstkit.datasets.image_photometric`) and the device (:mod:`mstkit.models.data_preprocessors`) read the
same numbers, so that they make the same view of them. Both build their blur from :func:`box_kernels`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# The parts of the color jitter, in the order in which ViewParameters.order numbers them.
JITTER = ('brightness', 'contrast', 'saturation', 'hue')
NO_SOLARIZATION = 256  # no value of an image reaches it

# Columns of ViewParameters.row().
FLIP, ORDER, FACTORS, GRAY, BLUR, SOLARIZE = 0, slice(1, 5), slice(5, 9), 9, 10, 11
WIDTH = 12


class ViewParameters(NamedTuple):
    """What happens to one view after it was cropped, in this order; the defaults change nothing.

    Attributes:
        flip: mirror left and right.
        order: the parts of the jitter that happen, as indices into :data:`JITTER`, in their order.
        brightness, contrast, saturation: factors, 1 for no change.
        hue: turn of the color circle, in [-0.5, 0.5].
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
        """The same as :data:`WIDTH` numbers, to travel in a tensor; what is left of the order is -1."""
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


def box_kernels(sigmas: np.ndarray, passes: int = 3) -> np.ndarray:
    """Kernels of repeated box filters whose variance is exactly sigma squared, as Pillow's Gaussian blur has it.

    A Gaussian that is sampled at whole pixels does next to nothing below 0.4 pixels, where the small views of small
    images are blurred. Source: Gwosdek et al., extended box filtering (SSVM 2011).

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
