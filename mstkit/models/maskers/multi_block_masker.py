"""A large context block without several target blocks stays visible (I-JEPA)."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from mstkit.models.maskers.functional import placed_rectangles
from mstkit.models.maskers.masker import Masker, check_probability
from mstkit.models.maskers.masking_ratio import count_of, draw_images
from mstkit.registry import MODELS
from mstkit.structures import MaskContext
from mstkit.utils.checks import check_count, check_range


@MODELS.register_module()
class MultiBlockMasker(Masker):
    """Shows a large context block but for what target blocks cover, and hides the rest.

    The multi-block masks of I-JEPA (Assran et al., CVPR 2023, arXiv 2301.08243). Each image has one context block,
    square unless the grid is too short, and target blocks of one size, each at a place of its own, which may overlap.
    Visible is what the context block covers and no target does. Hidden are the targets and what lies outside the
    context block; I-JEPA predicts the targets alone, each by itself, and a mask cannot tell the two apart.

    As in the published code a block of scale s and aspect a has round(sqrt(A a)) rows and round(sqrt(A / a)) columns
    with A = int(s L). Unlike in it

    - a block may lie at every place where it fits the grid, and be as long as the grid's side. There the last row and
      column of places are never drawn (``randint`` excludes its upper end), and on a 14 x 14 grid the last row and
      column are neither in a target nor visible, ever;
    - scale and aspect are drawn independently and for each image, not from one number and for the whole batch. The
      counts of visible patches therefore differ by more than overlaps, and none is cut down to the smallest of its
      batch;
    - where fewer than ``min_visible`` of the patches would be visible, the last targets are left out until enough are,
      without first drawing other places for the context block.

    Args:
        targets: number of target blocks, up to 64.
        target_scale: smallest and largest share of the patches that a target block covers, drawn uniformly.
        target_aspect: lowest and highest ratio of height to width of the target blocks, drawn uniformly.
        context_scale: as ``target_scale``, of the context block.
        min_visible: smallest share of the patches that is visible, rounded up; by default about 10 of 196, as in
            I-JEPA. A context block that has fewer is visible as a whole.
        image_prob: probability that an image is masked.

    Raises:
        UsageError: a number of targets outside [1, 64], a share or a probability outside [0, 1], a range with the
            larger number first, an aspect that is not positive.
    """

    def __init__(
        self,
        targets: int = 4,
        target_scale: tuple[float, float] = (0.15, 0.2),
        target_aspect: tuple[float, float] = (0.75, 1.5),
        context_scale: tuple[float, float] = (0.85, 1.0),
        min_visible: float = 0.05,
        image_prob: float = 1.0,
    ) -> None:
        super().__init__()
        self.targets = check_count('MultiBlockMasker.targets', targets, 1, 64)
        self.target_scale = check_range('MultiBlockMasker.target_scale', target_scale, 0, 1)
        self.target_aspect = check_range('MultiBlockMasker.target_aspect', target_aspect, above=0)
        self.context_scale = check_range('MultiBlockMasker.context_scale', context_scale, 0, 1)
        self.min_visible = check_probability(min_visible, 'min_visible', self)
        self.image_prob = check_probability(image_prob, 'image_prob', self)

    def hide(self, context: MaskContext, generator: Generator) -> Tensor:
        """See :meth:`Masker.hide`."""
        (batch, length), device = context.shape, context.device
        draw = torch.rand((batch, self.targets + 1, 4), generator=generator, device=device).double()
        draw[:, 1:-1, :2] = draw[:, -1:, :2]  # targets of one size
        seen = placed_blocks(draw[:, :1], self.context_scale, (1.0, 1.0), context.grid)  # (B, 1, L)
        targets = placed_blocks(draw[:, 1:], self.target_scale, self.target_aspect, context.grid)  # (B, T, L)
        # (B, T + 1, L): what is visible with no target, the first, the first two, ... all of them.
        visible = seen & ~torch.cat([torch.zeros_like(seen), targets.cumsum(dim=1) > 0], dim=1)
        enough = visible.sum(dim=2) >= count_of(self.min_visible, length, up=True)
        kept = (enough.sum(dim=1) - 1).clamp_min(0)
        hidden = ~visible[torch.arange(batch, device=device), kept]
        return hidden & draw_images(self.image_prob, batch, generator, device)

    def extra_repr(self) -> str:
        words = f'targets={self.targets}, target_scale={self.target_scale}, context_scale={self.context_scale}'
        return words + (f', image_prob={self.image_prob}' if self.image_prob < 1 else '')


def placed_blocks(
    draw: Tensor, scale: tuple[float, float], aspect: tuple[float, float], grid: tuple[int, int]
) -> Tensor:
    """Blocks of drawn sizes, each uniformly among the places where it fits the grid.

    Args:
        draw: (B, M, 4) float64, uniform in [0, 1): for scale, aspect, row and column.
        scale: smallest and largest share of the patches, from which the size is computed.
        aspect: lowest and highest ratio of height to width.
        grid: (h, w).

    Returns:
        (B, M, h*w) bool.
    """
    height, width = grid
    share, ratio, down, right = draw.split(1, dim=2)
    area = (height * width * (scale[0] + (scale[1] - scale[0]) * share)).floor()
    ratio = aspect[0] + (aspect[1] - aspect[0]) * ratio
    tall = (area * ratio).sqrt().round().clamp(1, height)
    wide = (area / ratio).sqrt().round().clamp(1, width)
    return placed_rectangles(tall, wide, (down, right), grid).flatten(2)
