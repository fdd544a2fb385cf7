"""Masking ratios: fixed or drawn per image or batch, and the share of images that are masked."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from mstkit.utils.checks import check_number, check_range

# Tolerance of rounding up: 0.07 * 100 is 7.000000000000001 in doubles and must not become 8.
ROUNDING = 1e-9
Ratio = float | tuple[float, float] | list[float]


def check_ratio(ratio: Ratio, owner: object, name: str = 'ratio') -> tuple[float, float]:
    """Checks a ratio or a range of ratios and returns it as a range.

    Args:
        ratio: a share of the patches, or (lowest, highest).
        owner: the masker whose argument it is, for the message.
        name: name of the argument.

    Returns:
        (lowest, highest), equal for a single share.

    Raises:
        UsageError: a value outside [0, 1], a range with the larger number first, or neither a number nor a pair.
    """
    place = f'{type(owner).__name__}.{name}'
    if isinstance(ratio, tuple | list):
        return check_range(place, ratio, 0, 1)
    share = check_number(place, ratio, 0, 1)
    return share, share


def amount(bounds: tuple[float, float], image_prob: float) -> str:
    """Ratio and share of images as text, for a masker's repr."""
    ratio = bounds[0] if bounds[0] == bounds[1] else bounds
    return f'ratio={ratio}' + (f', image_prob={image_prob}' if image_prob < 1 else '')


def count_of(share: float, *sides: int, up: bool = False) -> int:
    """Number of patches of a share r: int(r N), with the floating-point result of the published code.

    Args:
        share: r.
        sides: factors of N, multiplied one after another: (h, w) as in iBOT's code, or (L,) as in AttMask's. For r =
            0.29 and 10 x 10 patches the former gives 29 and the latter 28.
        up: round up instead of down (SimMIM; MAE, whose code keeps int((1 - r) N) patches, is equivalent).
    """
    for side in sides:
        share = share * side
    return math.ceil(share - ROUNDING) if up else int(share)


def draw_counts(
    bounds: tuple[float, float],
    sides: tuple[int, ...],
    draws: int,
    generator: Generator,
    device: torch.device,
    of: float = 1.0,
    up: bool = False,
) -> Tensor:
    """Draws the number of hidden patches: int(of r N), r uniform between the bounds.

    Computed on the device, so that the host does not wait.

    Args:
        bounds: (lowest, highest) share r.
        sides: (h, w) or (L,), factors of N, see :func:`count_of`.
        draws: how many numbers to draw; 1 for one that all images of a batch share.
        generator: on ``device``; not used if the bounds are equal.
        device: of the result.
        of: a further factor, the share of the patches from which r is taken.
        up: round up instead of down.

    Returns:
        (draws, 1) int64.
    """
    low, high = bounds
    if low == high:
        return torch.full((draws, 1), count_of(low * of, *sides, up=up), device=device)
    # In float64: in float32 the product may be rounded up to the next whole number.
    draw = torch.rand((draws, 1), generator=generator, device=device).double()
    count = (low + (high - low) * draw) * of
    for side in sides:
        count = count * side
    return (count - ROUNDING).ceil().long() if up else count.long()


def draw_images(prob: float, batch: int, generator: Generator, device: torch.device) -> Tensor:
    """Draws which images are masked, independently with probability ``prob``: (B, 1) bool."""
    if prob >= 1:
        return torch.ones((batch, 1), dtype=torch.bool, device=device)
    return torch.rand((batch, 1), generator=generator, device=device) < prob


def draw_stratified_counts(
    bounds: tuple[float, float],
    sides: tuple[int, ...],
    image_prob: float,
    batch: int,
    generator: Generator,
    device: torch.device,
) -> Tensor:
    """Draws the numbers of hidden patches of a batch evenly over the range of ratios, as DINOv2's collate function.

    Exactly n = int(B * image_prob) images are masked. The range is cut into n equal intervals, one ratio r is drawn
    uniformly from each, and the resulting int(r N) are given to images in random order. Compared with a ratio and a
    decision for each image by itself, hardly any difference between batches is left.

    Args:
        bounds: (lowest, highest) share r.
        sides: (h, w), factors of N, see :func:`count_of`.
        image_prob: share of the images that are masked.
        batch: B.
        generator: on ``device``.
        device: of the result.

    Returns:
        (B, 1) int64; 0 for images that are not masked.
    """
    masked = int(batch * image_prob)
    low, high = bounds
    draw = torch.rand((2, batch), generator=generator, device=device).double()
    places = torch.arange(batch, device=device)
    # Equal bounds are exact here: the product is 0.
    count = low + (high - low) * (places + draw[0]) / max(masked, 1)
    for side in sides:
        count = count * side
    counts = count.long().where(places < masked, 0)
    return counts[draw[1].argsort()][:, None]
