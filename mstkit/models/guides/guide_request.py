"""What is asked of a guide beside what a masker needs: scores for objectives, and for whoever looks at masks."""

from __future__ import annotations

from torch import Generator, Tensor

from mstkit.models.maskers import Masker
from mstkit.structures import MaskContext


class GuideRequest(Masker):
    """Asks a guide in the place of a masker, because scores are read that no masker needs.

    It hides nothing itself: guides are asked by maskers, and this one asks for what the method's masker needs, and for
    scores in any case. They are those by which the masker chooses, or where it asks for none, as with a random mask,
    those of one block.

    Args:
        masker: the method's; None for none.
        layer: the block whose attention gives the scores if the masker needs none, from the end.
        tokens: whether patch tokens are asked for, whatever the masker needs.
    """

    def __init__(self, masker: Masker | None = None, layer: int = -1, tokens: bool = False) -> None:
        super().__init__()
        self._asked_by = [] if masker is None else [masker]  # in a list: it is a part of the model already
        self._layer, self._tokens = layer, tokens

    @property
    def needs_scores(self) -> bool:  # type: ignore[override]
        """Always."""
        return True

    @property
    def needs_tokens(self) -> bool:  # type: ignore[override]
        """If they are asked for, or the masker needs them."""
        return self._tokens or any(masker.needs_tokens for masker in self._asked_by)

    @property
    def layer(self) -> int:  # type: ignore[override]
        """As the masker, if it needs scores; else the given one."""
        return next((masker.layer for masker in self._asked_by if masker.needs_scores), self._layer)

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
