"""How much to hide: a share of the patches, fixed or drawn anew, and the share of images that are masked at all."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from mstkit.utils.checks import check_number, check_range

# What a product of doubles may be off by: 0.07 * 100 is 7.000000000000001, which is not to become 8.
ROUNDING = 1e-9
Ratio = float | tuple[float, float] | list[float]


def check_ratio(ratio: Ratio, owner: object, name: str = 'ratio') -> tuple[float, float]:
    """Reads a ratio or a range of them.

    Args:
        ratio: a share of the patches, or (lowest, highest).
        owner: whose argument it is, for the message.
        name: of the argument.

    Returns:
        (lowest, highest), equal for a single share.

    Raises:
        UsageError: outside [0, 1], the wrong way round, or neither a number nor two.
    """
    place = f'{type(owner).__name__}.{name}'
    if isinstance(ratio, tuple | list):
        return check_range(place, ratio, 0, 1)
    share = check_number(place, ratio, 0, 1)
    return share, share


def amount(bounds: tuple[float, float], image_prob: float) -> str:
    """A ratio and a share of images in a few words, for a masker's repr."""
    ratio = bounds[0] if bounds[0] == bounds[1] else bounds
    return f'ratio={ratio}' + (f', image_prob={image_prob}' if image_prob < 1 else '')


def count_of(share: float, *sides: int, up: bool = False) -> int:
    """How many patches a share is: int(r N), in the doubles and in the order in which the published code multiplies.

    Args:
        share: r.
        sides: what it is multiplied by, one after another: h and w where iBOT's code counts, L in AttMask's. With 0.29
            of 10 x 10 patches the former comes to 29 and the latter to 28.
        up: to the next whole number instead (SimMIM; MAE keeps int((1 - r) N), which is the same).
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
    """Draws how many patches are hidden: int(r N), r uniform between the bounds.

    Stays on the device, so that no step waits for the host.

    Args:
        bounds: (lowest, highest) share.
        sides: (h, w) or (L,), see :func:`count_of`.
        draws: how many counts; 1 for one that a whole batch shares.
        generator: on ``device``. Not used where the bounds are equal.
        device: where the counts are needed.
        of: what the share is a share of, itself a share of the patches.
        up: to the next whole number instead.

    Returns:
        (draws, 1) int64.
    """
    low, high = bounds
    if low == high:
        return torch.full((draws, 1), count_of(low * of, *sides, up=up), device=device)
    # In doubles: in single precision a product may round up to the next whole number.
    draw = torch.rand((draws, 1), generator=generator, device=device).double()
    count = (low + (high - low) * draw) * of
    for side in sides:
        count = count * side
    return (count - ROUNDING).ceil().long() if up else count.long()


def draw_images(prob: float, batch: int, generator: Generator, device: torch.device) -> Tensor:
    """Which images are masked at all, each with the same probability: (B, 1) bool."""
    if prob >= 1:
        return torch.ones((batch, 1), dtype=torch.bool, device=device)
    return torch.rand((batch, 1), generator=generator, device=device) < prob
