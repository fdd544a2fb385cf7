"""Masks from filtered noise (ColorMAE)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Generator, Tensor

from mstkit.models.maskers.functional import ranks
from mstkit.models.maskers.masking_ratio import Ratio
from mstkit.models.maskers.ratio_masker import RatioMasker
from mstkit.registry import MODELS
from mstkit.structures import MaskContext
from mstkit.utils.checks import check_one_of, check_range

Color = Literal['red', 'blue', 'green', 'purple']
CUT = 3  # a Gaussian ends after so many standard deviations


@MODELS.register_module()
class ColorNoiseMasker(RatioMasker):
    """Keeps the patches visible at which filtered noise is strongest, and hides an exact share of each image.

    As in ColorMAE (Hinojosa et al., ECCV 2024, arXiv 2407.13036). With white noise W, one value for each patch, and
    Gaussian filters G1 and G2, the second one wider:

    - 'red', G1 * W, has low frequencies: hidden patches lie together in large areas, and so do visible ones.
    - 'blue', W - G1 * W, has high ones: hidden and visible patches alternate.
    - 'green', G1 * W - G2 * W, has a band between: areas of about the same size alternate.
    - 'purple', W - (G1 * W - G2 * W), is without that band.

    ColorMAE cuts the noise out of patterns that were filtered in advance, with random flips. Here each image has fresh
    noise, filtered with a margin as wide as the filter, which has the same distribution at every place and in every
    mirror image. So no patch is special, and flips would change nothing.

    Args:
        ratio: share of the patches to hide, or the range from which it is drawn for each image.
        image_prob: probability that an image is masked.
        color: which frequencies the noise has; 'green' is the paper's best.
        sigma: standard deviations of G1 and G2, in patches, up to 64. Those of the published patterns were found in
            neither code nor paper, so these are this project's choice.

    Raises:
        UsageError: a ratio or a probability outside [0, 1], a range with the larger number first, an unknown color, a
            standard deviation that is not positive or above 64, or the larger one first.
    """

    def __init__(
        self,
        ratio: Ratio = 0.75,
        image_prob: float = 1.0,
        color: Color = 'green',
        sigma: tuple[float, float] = (1.0, 2.0),
    ) -> None:
        super().__init__(ratio, image_prob)
        self.color = check_one_of('ColorNoiseMasker.color', color, ('red', 'blue', 'green', 'purple'))
        self.sigma = check_range('ColorNoiseMasker.sigma', sigma, high=64, above=0)

    def choose(self, context: MaskContext, counts: Tensor, generator: Generator) -> Tensor:
        """See :meth:`RatioMasker.choose`."""
        return ranks(self.noise(len(counts), context.grid, generator).flatten(1)) < counts

    def noise(self, batch: int, grid: tuple[int, int], generator: Generator) -> Tensor:
        """Draws filtered noise.

        Args:
            batch: B.
            grid: (h, w).
            generator: its device is that of the result.

        Returns:
            (B, h, w) float32.
        """
        margin = math.ceil(CUT * self.sigma[1])
        sides = (grid[0] + 2 * margin, grid[1] + 2 * margin)
        noise = torch.randn((batch, *sides), generator=generator, device=generator.device)
        white = noise[:, margin : margin + grid[0], margin : margin + grid[1]]
        narrow = blurred(noise, self.sigma[0], margin)
        if self.color == 'red':
            return narrow
        if self.color == 'blue':
            return white - narrow
        band = narrow - blurred(noise, self.sigma[1], margin)
        return band if self.color == 'green' else white - band

    def extra_repr(self) -> str:
        words = f'{super().extra_repr()}, color={self.color!r}'
        return words + (f', sigma={self.sigma}' if self.sigma != (1.0, 2.0) else '')


def blurred(values: Tensor, sigma: float, margin: int) -> Tensor:
    """Filters maps with a Gaussian of weights that sum to one, and cuts their margins off.

    Args:
        values: (B, h + 2 margin, w + 2 margin).
        sigma: standard deviation, in entries.
        margin: radius of the filter.

    Returns:
        (B, h, w).
    """
    steps = torch.arange(-margin, margin + 1, device=values.device)
    weights = (-0.5 * (steps / sigma) ** 2).exp()
    weights = weights / weights.sum()
    # Products and sums, not convolutions: those would be in half precision under autocast, where noise has ties.
    for axis in (1, 2):
        values = (values.unfold(axis, len(steps), 1) * weights).sum(-1)
    return values
