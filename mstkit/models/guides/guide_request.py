"""What a method asks of its guide: what its masker needs, and scores for its objectives."""

from __future__ import annotations

from torch import Generator, Tensor

from mstkit.models.maskers import Masker
from mstkit.structures import MaskContext


class GuideRequest(Masker):
    """Asks a guide in the place of a masker, because an objective reads scores too.

    It hides nothing itself: guides are asked by maskers, and this one asks for what the method's masker needs, and for
    scores in any case. Objectives get the scores by which the masker chooses, or where it asks for none, as with a
    random mask, those of the last block.

    Args:
        masker: the method's; None for none.
    """

    def __init__(self, masker: Masker | None) -> None:
        super().__init__()
        self._asked_by = [] if masker is None else [masker]  # in a list: it is a part of the model already

    @property
    def needs_scores(self) -> bool:  # type: ignore[override]
        """Always."""
        return True

    @property
    def needs_tokens(self) -> bool:  # type: ignore[override]
        """As the masker."""
        return any(masker.needs_tokens for masker in self._asked_by)

    @property
    def layer(self) -> int:  # type: ignore[override]
        """As the masker, if it needs scores; else the last."""
        return next((masker.layer for masker in self._asked_by if masker.needs_scores), -1)

    @property
    def exclude_cls_key(self) -> bool:  # type: ignore[override]
        """Likewise."""
        return next((masker.exclude_cls_key for masker in self._asked_by if masker.needs_scores), False)

    def parts(self) -> list[Masker]:
        """Those of the masker, and this one unless one of them needs scores."""
        parts = [part for masker in self._asked_by for part in masker.parts()]
        return parts if any(part.needs_scores for part in parts) else [*parts, self]

    def needs_scores_in(self, epoch: int) -> bool:
        """In every epoch."""
        return True

    def hide(self, context: MaskContext, generator: Generator) -> Tensor:
        """Not asked for: the masker hides."""
        raise NotImplementedError
