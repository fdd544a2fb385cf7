"""The random mask that hides as many patches as another one, which that one is to be compared with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mstkit.models.maskers.attmask import AttMask, AttMaskHint
from mstkit.models.maskers.random_masker import RandomMasker
from mstkit.models.maskers.ratio_masker import RatioMasker
from mstkit.models.maskers.scheduled_maskers import build_masker
from mstkit.models.maskers.shuffled_masker import ShuffledMasker
from mstkit.models.maskers.throwing_masker import ThrowingMasker

_OF_SCORES = ('direction', 'layer', 'exclude_cls_key')


def random_twin(masker: Mapping[str, Any] | str | None) -> dict[str, Any] | None:
    """The config of a masker that hides as many patches of an image as another, but any of them.

    Args:
        masker: the config of the other one.

    Returns:
        ``RandomMasker`` where the other hides an exact share of each image, ``ThrowingMasker`` in a random order where
        it throws, and else ``ShuffledMasker``, whose counts have the distribution of the other's. None if there is
        nothing to compare: no masker, or one that is random itself.

    Raises:
        UsageError: the masker cannot be built, or its masks cannot be shuffled.
    """
    built = build_masker(dict(masker) if isinstance(masker, Mapping) else masker)
    if built is None or isinstance(built, RandomMasker | ShuffledMasker) or not isinstance(masker, Mapping):
        return None
    if isinstance(built, ThrowingMasker):
        blind = {key: value for key, value in masker.items() if key not in _OF_SCORES}
        return None if built.order == 'random' else {**blind, 'order': 'random'}
    shuffles = isinstance(built, AttMaskHint) or (isinstance(built, RatioMasker) and built.stratified)
    # AttMask draws one ratio for a batch: of a single image its count has the same distribution.
    if isinstance(built, RatioMasker | AttMask) and not shuffles:
        low, high = built.ratio
        twin: dict[str, Any] = dict(type='RandomMasker', ratio=low if low == high else (low, high))
        return twin if built.image_prob == 1 else dict(twin, image_prob=built.image_prob)
    return dict(type='ShuffledMasker', masker=dict(masker))
