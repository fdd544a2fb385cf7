"""Color and blur operations on small uint8 images, (H, W, 3) RGB.

They equal torchvision's operations on Pillow images (and Pillow's Gaussian blur) up to rounding, but use OpenCV's
vectorized operations and numpy's, which take a fraction of Pillow's time. Sources: torchvision's functional
reference, DINO's augmentation (arXiv:2104.14294, section 4.2).
"""

from __future__ import annotations

import functools

import cv2
import numpy as np

from mstkit.utils.view_parameters import JITTER, NO_SOLARIZATION, ViewParameters, blur_kernel

_WIDE = 64  # px from which on OpenCV mirrors faster than numpy
_FAINT = 2**-10  # of a blur's weight, at each end: half a level of 255 at most along a side
_MANY = 3 * 80**2  # values from which on whole planes turn their hue faster than OpenCV's HSV
# Added before OpenCV rounds to the nearest whole number, so that it truncates, as Pillow does when it blends. A little
# more than -1/2: float32 may miss a whole number by less than that.
_DOWN = 2**-14 - 0.5


def _blend(image: np.ndarray, factor: float, offset: float) -> np.ndarray:
    """``factor`` (0 or more) times the values plus ``offset``, truncated, within 0..255."""
    if offset < 0:  # of what is below 0, convertScaleAbs would take the absolute value
        return cv2.addWeighted(image, factor, image, 0.0, offset + _DOWN)
    return cv2.convertScaleAbs(image, alpha=factor, beta=offset + _DOWN)


def adjust_brightness(image: np.ndarray, factor: float) -> np.ndarray:
    """Scales all values; 0 gives black, 1 the image."""
    return _blend(image, factor, 0.0)


def adjust_contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """Scales the distance from the mean gray; 0 gives a gray plane, 1 the image."""
    mean = int(cv2.mean(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))[0] + 0.5)  # type: ignore[index]  # four numbers
    return _blend(image, factor, mean * (1 - factor))


def adjust_saturation(image: np.ndarray, factor: float) -> np.ndarray:
    """Scales the distance from each pixel's gray; 0 gives a gray image, 1 the image."""
    return cv2.addWeighted(image, factor, to_gray(image), 1.0 - factor, 0.0)


def adjust_hue(image: np.ndarray, turn: float) -> np.ndarray:
    """Turns the hue by ``turn`` of the color circle, in [-0.5, 0.5], in steps of 1/255 as Pillow does."""
    if image.size < _MANY:
        return _turn_hsv(image, turn)
    return _turn_planes(image, int(turn * 255) / 255)


def _turn_hsv(image: np.ndarray, turn: float) -> np.ndarray:
    """By way of HSV in uint8, whose rounding is up to 15 of 255."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
    rows = hsv.reshape(len(hsv), -1)
    turns = np.zeros(rows.shape[1], np.uint8)
    turns[::3] = int(turn * 255) % 256
    np.add(rows, turns, out=rows)  # wraps around; whole rows, since numpy is slow on every third value
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)


def _turn_planes(image: np.ndarray, turn: float) -> np.ndarray:
    """Without the hue itself, in whole numbers, rounded once.

    With V the largest channel of a pixel, m the smallest and C = V - m, let a channel be m + x and V - y. A turn by a
    third of the circle moves the channels on by one; one by half of it swaps x and y; so all multiples of a sixth cost
    nothing. What is left is at most a twelfth, d sixths of either sign. Along the circle a channel rises within a
    sixth where the next one is at m, stays at V for two, falls where the next one is at V and stays at m for two;
    hence, with D = |d| C and n the next channel in the direction of the turn, x grows by max(0, D - x_n) up to C and
    then falls by max(0, D - y_n) down to 0.
    """
    sixths = round(6 * turn)
    rest = 6 * turn - sixths
    # Four planes, of which three begin or end with the same, so that the next ones of three are three in a row, too.
    planes = np.empty((4, *image.shape[:2]), np.uint8)
    own, following = (slice(0, 3), slice(1, 4)) if rest >= 0 else (slice(1, 4), slice(0, 3))
    cv2.split(image, list(planes[own]))
    planes[3 if rest >= 0 else 0] = planes[0 if rest >= 0 else 3]
    first, second, third = planes[own]
    smallest = np.minimum(np.minimum(first, second), third)
    chroma = np.maximum(np.maximum(first, second), third) - smallest
    distance = cv2.convertScaleAbs(chroma, alpha=abs(rest))
    above = np.subtract(planes, smallest, out=planes)
    below = chroma - above
    if sixths % 2:
        above, below, sixths = below, above, sixths - 3
    turned = _less(distance, above[following])
    np.minimum(turned, below[own], out=turned)
    turned += above[own]
    fallen = _less(distance, below[following])
    turned -= np.minimum(fallen, turned, out=fallen)
    turned += smallest
    return cv2.merge([turned[(channel - sixths // 2) % 3] for channel in range(3)])


def _less(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """max(0, values - others) of unsigned numbers."""
    smaller = np.minimum(values, others)
    return np.subtract(values, smaller, out=smaller)


def to_gray(image: np.ndarray) -> np.ndarray:
    """Luma in all three channels."""
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def gaussian_blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur; ``sigma`` in pixels is what Pillow calls the radius, and must be above 0."""
    kernel = blur_kernel(sigma)
    # Ends of almost no weight are left out: a fifth of the time, and one value in 50 differs, by one.
    ends, left_out = 0, 0.0
    for weight in kernel.tolist():
        if left_out + weight >= _FAINT:
            break
        ends, left_out = ends + 1, left_out + weight
    # float32: with a float64 kernel OpenCV takes twice as long, for the same result up to rounding.
    kernel = (kernel[ends : len(kernel) - ends] / (1 - 2 * left_out)).astype(np.float32)
    return cv2.sepFilter2D(image, -1, kernel, kernel, borderType=cv2.BORDER_REPLICATE)


def solarize(image: np.ndarray, threshold: int) -> np.ndarray:
    """Inverts all values at or above ``threshold``."""
    return cv2.bitwise_xor(image, cv2.threshold(image, threshold - 1, 255, cv2.THRESH_BINARY)[1])


def flip_horizontally(image: np.ndarray) -> np.ndarray:
    """Mirrors left and right."""
    width = image.shape[1]
    # OpenCV takes 10 us for the smallest image.
    return cv2.flip(image, 1) if width >= _WIDE else image.take(_mirrored(width), axis=1)


@functools.lru_cache(maxsize=_WIDE)
def _mirrored(width: int) -> np.ndarray:
    return np.arange(width - 1, -1, -1)


def apply_parameters(image: np.ndarray, parameters: ViewParameters) -> np.ndarray:
    """Applies the photometric augmentation with the given parameters to one view.

    Args:
        image: (H, W, 3) uint8 RGB; not changed.
        parameters: from :meth:`ViewRecipe.draw`.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    if parameters.flip:
        image = flip_horizontally(image)
    for part in parameters.order:
        image = _JITTER[part](image, getattr(parameters, JITTER[part]))
    if parameters.gray:
        image = to_gray(image)
    if parameters.blur:
        image = gaussian_blur(image, parameters.blur)
    if parameters.solarize < NO_SOLARIZATION:
        image = solarize(image, parameters.solarize)
    return image


_JITTER = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)
