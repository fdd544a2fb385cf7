"""Masks by the parts of an image: a share inside every part, whole parts, and what lies between (SemMAE's rule)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from mstkit.models.maskers.functional import ranks, uniform_places
from mstkit.models.maskers.masking_ratio import Ratio
from mstkit.models.maskers.ratio_masker import RatioMasker
from mstkit.models.maskers.token_clusters import token_clusters
from mstkit.registry import MODELS
from mstkit.structures import MaskContext, Progress
from mstkit.utils.checks import check_count, check_number, check_one_of

STEPS = 2**16  # a share is a whole number of 65536ths, so that numbers of patches are computed in whole numbers


@MODELS.register_module()
class PartMasker(RatioMasker):
    """Hides patches inside all parts of an image, or whole parts, moving from one to the other over the run.

    SemMAE's rule (Li et al., NeurIPS 2022, arXiv 2206.10207, section 3.3): of a part with n of the L patches, λ · (n r)
    + (1 - λ) · m are hidden, at random inside the part. m are those that are hidden of it if parts are hidden as a
    whole, in random order, until r L patches are (the last part in part). SemMAE's λ falls from 1 to 0 by half a
    cosine, from patterns inside parts to relations between them.

    The parts are not SemMAE's, which come from a network trained for it, but clusters of the guide's patch tokens
    (:func:`token_clusters`). And the number of hidden patches is exact: rounded by largest remainders, not part by
    part.

    Args:
        ratio: share of the patches to hide, or the range from which it is drawn for each image.
        image_prob: probability that an image is masked.
        num_parts: the largest number of parts of an image; 7 in SemMAE's code.
        direction: 'to_whole' from shares inside parts to whole parts over the run, as SemMAE; 'to_inside' the reverse.
        schedule: how λ moves from the first to the last step: by half a 'cosine' or 'linear'.
        inside: a fixed λ in place of the schedule: 1 for the share inside every part, 0 for whole parts.
        iterations: of k-means.
        stratified: see :class:`RatioMasker`.

    Raises:
        UsageError: a share or a probability outside [0, 1], a range with the larger number first, a count below 1, an
            unknown word, a flag that is neither True nor False.
    """

    needs_tokens = True

    def __init__(
        self,
        ratio: Ratio = 0.75,
        image_prob: float = 1.0,
        num_parts: int = 7,
        direction: Literal['to_whole', 'to_inside'] = 'to_whole',
        schedule: Literal['cosine', 'linear'] = 'cosine',
        inside: float | None = None,
        iterations: int = 5,
        stratified: bool = False,
    ) -> None:
        super().__init__(ratio, image_prob, stratified)
        self.num_parts = check_count('PartMasker.num_parts', num_parts, 1, 1024)
        self.direction = check_one_of('PartMasker.direction', direction, ('to_whole', 'to_inside'))
        self.schedule = check_one_of('PartMasker.schedule', schedule, ('cosine', 'linear'))
        self.inside = None if inside is None else check_number('PartMasker.inside', inside, 0, 1)
        self.iterations = check_count('PartMasker.iterations', iterations, 1, 1000)
        self._inside = self.inside_at(0.0)

    def inside_at(self, progress: float) -> float:
        """λ when a share of the run, 0 to 1, is done."""
        if self.inside is not None:
            return self.inside
        left = (1 + math.cos(math.pi * progress)) / 2 if self.schedule == 'cosine' else 1 - progress
        return left if self.direction == 'to_whole' else 1 - left

    def set_progress(self, progress: Progress) -> None:
        """See :meth:`Masker.set_progress`; also sets λ."""
        super().set_progress(progress)
        self._inside = self.inside_at(min(progress.step / max(progress.total_steps, 1), 1.0))

    def choose(self, context: MaskContext, counts: Tensor, generator: Generator) -> Tensor:
        """See :meth:`RatioMasker.choose`."""
        assert context.tokens is not None
        part = token_clusters(context.tokens, self.num_parts, self.iterations, generator)  # (B, L)
        sizes = F.one_hot(part, self.num_parts).sum(dim=1)  # (B, P)
        order = uniform_places((len(part), self.num_parts), generator, part.device)
        hidden = part_counts(sizes, order, counts, round(self._inside * STEPS))
        # Patches sorted by part, at random within one: those that come first in a part are hidden.
        length = part.shape[1]
        place = ranks(part * length + uniform_places((len(part), length), generator, part.device))
        start = sizes.cumsum(dim=1) - sizes
        return place - start.gather(1, part) < hidden.gather(1, part)

    def extra_repr(self) -> str:
        moving = f'direction={self.direction!r}, schedule={self.schedule!r}'
        share = moving if self.inside is None else f'inside={self.inside}'
        return f'{super().extra_repr()}, num_parts={self.num_parts}, {share}'


def part_counts(sizes: Tensor, order: Tensor, counts: Tensor, inside: int) -> Tensor:
    """How many patches of each part are hidden.

    Args:
        sizes: (B, P) int64, patches of each part; they sum to L.
        order: (B, P) int64, the place of each part in the order in which whole parts are hidden, 0 to P - 1.
        counts: (B, 1) int64, how many patches of each image are hidden.
        inside: λ in 65536ths.

    Returns:
        (B, P) int64, at most ``sizes`` each, with the sum ``counts``. Where shares are no whole numbers, the parts of
        largest remainder get one more; of equal ones that which is earlier in the order.
    """
    # (B, P, P): whether the part of the column comes before that of the row.
    earlier = order.unsqueeze(1) < order.unsqueeze(2)
    before = (earlier * sizes.unsqueeze(1)).sum(dim=2)  # (B, P)
    whole = torch.minimum((counts - before).clamp_min(0), sizes)
    # In whole numbers, so that nothing is rounded: λ n (k / L) + (1 - λ) m, times 65536 L.
    length = sizes.sum(dim=1, keepdim=True)
    shares = inside * sizes * counts + (STEPS - inside) * whole * length
    found = shares.div(STEPS * length, rounding_mode='floor')
    remainder = shares - found * STEPS * length
    left = counts - found.sum(dim=1, keepdim=True)
    # Remainders are below 2^16 L, so this stays far below 2^63.
    return found + (ranks(-(remainder * order.shape[1] + order.shape[1] - 1 - order)) < left)
