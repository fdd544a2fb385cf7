"""One patch of each 2 x 2 stays visible (UM-MAE)."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from mstkit.models.maskers.functional import ranks
from mstkit.models.maskers.masker import Masker, check_probability
from mstkit.models.maskers.masking_ratio import ROUNDING, draw_images
from mstkit.registry import MODELS
from mstkit.structures import MaskContext


@MODELS.register_module()
class UniformMasker(Masker):
    """Samples one patch of each 2 x 2, and hides some of the sampled ones again.

    The uniform masks of UM-MAE (Li et al., arXiv 2205.10063). Of the K sampled patches only int((1 - secondary) K), any
    of them, stay visible; all others are hidden: at the paper's settings 81.25 % of an even grid.

    UM-MAE encodes the sampled patches alone, on a grid of half the size, with a [MASK] token in the place of those that
    are hidden again. So does a Swin here in methods that encode visible patches alone (MAE); a ViT sees neither kind of
    hidden patch there. In methods with [MASK] tokens every hidden patch is one, and a Swin computes the whole grid.
    UM-MAE predicts only what was not sampled; here what was hidden again is predicted too.

    An odd side has a row (or column) of halved squares, at the first or the last edge of an image with equal
    probability, so that no patch is sampled always.

    Args:
        secondary: share of the sampled patches that are hidden again; 0 hides three quarters of an even grid.
        image_prob: probability that an image is masked.

    Raises:
        UsageError: a share or a probability outside [0, 1].
    """

    def __init__(self, secondary: float = 0.25, image_prob: float = 1.0) -> None:
        super().__init__()
        self.secondary = check_probability(secondary, 'secondary', self)
        self.image_prob = check_probability(image_prob, 'image_prob', self)

    @property
    def equal_counts(self) -> bool:
        """See :attr:`Masker.equal_counts`."""
        return self.image_prob in (0, 1)

    @property
    def visible_per_square(self) -> tuple[int, int] | None:
        """See :attr:`Masker.visible_per_square`: one, or also none if sampled patches are hidden again."""
        return (0 if self.secondary else 1, 1) if self.image_prob == 1 else None

    def hide(self, context: MaskContext, generator: Generator) -> Tensor:
        """See :meth:`Masker.hide`."""
        (batch, length), (height, width), device = context.shape, context.grid, context.device
        down, across = -(-height // 2), -(-width // 2)
        chance = torch.rand((batch, 2 * down, 2 * across), generator=generator, device=device)
        first = torch.rand((batch, 2), generator=generator, device=device) < 0.5
        # Where patch 0 lies on the grid of whole squares: (B,) each.
        top = (first[:, 0] & (height % 2 == 1)).long()
        left = (first[:, 1] & (width % 2 == 1)).long()
        rows = torch.arange(height, device=device) + top.unsqueeze(1)  # (B, h)
        columns = torch.arange(width, device=device) + left.unsqueeze(1)  # (B, w)
        images = torch.arange(batch, device=device).view(-1, 1, 1)
        place = (images, rows.unsqueeze(2), columns.unsqueeze(1))
        inside = torch.zeros_like(chance, dtype=torch.bool)
        inside[place] = True
        # (B, 2d, 2a) -> (B, d, 2, a, 2) -> (B, d, a, 4): the patches of each square, of which the largest is sampled.
        squares = chance.masked_fill(~inside, -1).view(batch, down, 2, across, 2).transpose(2, 3).flatten(3)
        sampled = F.one_hot(squares.argmax(-1), 4).bool().view(batch, down, across, 2, 2).transpose(2, 3)
        sampled = sampled.reshape(chance.shape)[place].flatten(1)
        visible = int((1 - self.secondary) * down * across + ROUNDING)
        again = torch.rand((batch, length), generator=generator, device=device)
        hidden = ranks(again + ~sampled) >= visible
        return hidden & draw_images(self.image_prob, batch, generator, device)

    def extra_repr(self) -> str:
        return f'secondary={self.secondary}' + (f', image_prob={self.image_prob}' if self.image_prob < 1 else '')
