"""Masks of the object of an image, found as one of two clusters of its patches (self-guided MAE)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Generator, Tensor

from mstkit.models.maskers.functional import importance_of, ranks, uniform_places
from mstkit.models.maskers.masker import check_layer, check_probability
from mstkit.models.maskers.masking_ratio import Ratio
from mstkit.models.maskers.ratio_masker import RatioMasker
from mstkit.models.maskers.token_clusters import token_clusters
from mstkit.registry import MODELS
from mstkit.structures import MaskContext
from mstkit.utils.checks import check_count, check_flag, check_one_of


@MODELS.register_module()
class ObjectMasker(RatioMasker):
    """Hides the object of an image but for a few hints, and patches of the background up to an exact count.

    After self-guided MAE (Shin et al., NeurIPS 2024, arXiv 2507.19773), which parts the patches of an image in two by
    the features of the encoder that is trained, and hides the object but for hint tokens. Here the two are clusters of
    the guide's patch tokens (:func:`token_clusters`), and how the object is told from the background, how many hints
    there are and what fills the budget are choices of this project.

    With n patches in the object and k to hide, any int(``hint`` n) patches of the object are hints. Patches are hidden
    at random in this order, until k are: those of the object that are no hints, the background, the hints.

    Args:
        ratio: share of the patches to hide, or the range from which it is drawn for each image.
        image_prob: probability that an image is masked.
        hint: share of the object's patches that stay visible, as far as the background has room for the budget.
        rule: which cluster is the object: 'border', the one of which a smaller share lies on the border of the grid (of
            equals, that of fewer patches); 'score', the one of higher mean attention.
        hide: whether the 'object' is hidden first or, as a control, the 'background', with hints of its own.
        iterations: of k-means.
        layer: with ``rule='score'``, the guide's block whose attention is used, from the end (-1 is the last).
        exclude_cls_key: likewise, attention over the patches alone; see :func:`functional.importance_of`.
        stratified: see :class:`RatioMasker`.

    Raises:
        UsageError: a share or a probability outside [0, 1], a range with the larger number first, an unknown word, a
            count below 1, a layer that is not negative, a flag that is neither True nor False.
    """

    needs_tokens = True

    def __init__(
        self,
        ratio: Ratio = 0.75,
        image_prob: float = 1.0,
        hint: float = 0.1,
        rule: Literal['border', 'score'] = 'border',
        hide: Literal['object', 'background'] = 'object',
        iterations: int = 5,
        layer: int = -1,
        exclude_cls_key: bool = False,
        stratified: bool = False,
    ) -> None:
        super().__init__(ratio, image_prob, stratified)
        self.hint = check_probability(hint, 'hint', self)
        self.rule = check_one_of('ObjectMasker.rule', rule, ('border', 'score'))
        self.hidden_first = check_one_of('ObjectMasker.hide', hide, ('object', 'background'))
        self.iterations = check_count('ObjectMasker.iterations', iterations, 1, 1000)
        self.layer = check_layer(layer, self)
        self.exclude_cls_key = check_flag('ObjectMasker.exclude_cls_key', exclude_cls_key)
        self.needs_scores = self.rule == 'score'

    def choose(self, context: MaskContext, counts: Tensor, generator: Generator) -> Tensor:
        """See :meth:`RatioMasker.choose`."""
        first = self.objects(context, generator)
        if self.hidden_first == 'background':
            first = ~first
        place = uniform_places(context.shape, generator, context.device)
        length = place.shape[1]
        # In float64, and so as count_of has it; on the device, which need not wait for a table of the host's.
        hints = (self.hint * first.sum(dim=1, keepdim=True).double()).long()  # (B, 1)
        is_hint = first & (ranks(place + length * ~first) < hints)
        turn = torch.where(is_hint, 2, (~first).long())  # 0 the object, 1 the background, 2 hints
        return ranks(turn * length + place) < counts

    def objects(self, context: MaskContext, generator: Generator) -> Tensor:
        """Which patches are of the object: (B, L) bool."""
        assert context.tokens is not None
        second = token_clusters(context.tokens, 2, self.iterations, generator) == 1
        clusters = torch.stack([~second, second], dim=1)  # (B, 2, L)
        sizes = clusters.sum(dim=2)  # (B, 2)
        if self.rule == 'score':
            assert context.scores is not None
            scores = importance_of(context.scores, self.exclude_cls_key)
            means = (clusters * scores.unsqueeze(1)).sum(dim=2) / sizes.clamp_min(1)
            is_second = means[:, 1] > means[:, 0]
        else:
            border = torch.ones(context.grid, dtype=torch.bool, device=second.device)
            border[1:-1, 1:-1] = False
            outside = (clusters & border.flatten()).sum(dim=2)
            shares = outside * sizes.flip(1)  # in the order of outside / sizes
            fewer = (shares[:, 1] == shares[:, 0]) & (sizes[:, 1] < sizes[:, 0])
            is_second = (shares[:, 1] < shares[:, 0]) | fewer
        return second == is_second.unsqueeze(1)

    def extra_repr(self) -> str:
        words = f'{super().extra_repr()}, hint={self.hint}, rule={self.rule!r}, hide={self.hidden_first!r}'
        return words + (f', layer={self.layer}' if self.layer != -1 else '')
