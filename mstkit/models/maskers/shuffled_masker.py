"""The masks of another masker with their patches shuffled: as many, anywhere."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from mstkit.errors import UsageError
from mstkit.models.maskers.functional import shuffled
from mstkit.models.maskers.masker import Masker
from mstkit.models.maskers.scheduled_maskers import build_masker
from mstkit.registry import MODELS
from mstkit.structures import MaskContext, Progress


@MODELS.register_module()
class ShuffledMasker(Masker):
    """Hides as many patches of each image as another masker would, but any of them.

    What a masker is to be compared with whose count is no fixed share: the number of hidden patches (and of thrown
    ones) has exactly the distribution of the other masker's, within a batch and over a run, and where they lie says
    nothing about the image. It needs no guide: to a masker that ranks patches by scores it gives random ones.

    Args:
        masker: the config of the other masker, or the masker.

    Raises:
        UsageError: None, or a masker that groups patches by the guide's tokens.
    """

    masker: Masker

    def __init__(self, masker: dict | Masker | str | None) -> None:
        super().__init__()
        built = build_masker(masker)
        if built is None:
            raise UsageError('ShuffledMasker needs a masker whose masks it shuffles, not None')
        for part in built.parts():
            if part.needs_tokens:
                raise UsageError(
                    f'ShuffledMasker: {type(part).__name__} looks at tokens of a guide, which a random mask has not; '
                    'compare it with RandomMasker and its ratio'
                )
        self.masker = built
        self.throws = built.throws

    @property
    def equal_counts(self) -> bool:
        """As the masker's."""
        return self.masker.equal_counts

    def set_progress(self, progress: Progress) -> None:
        """See :meth:`Masker.set_progress`."""
        super().set_progress(progress)
        self.masker.set_progress(progress)

    def hide(self, context: MaskContext, generator: Generator) -> Tensor:
        """See :meth:`Masker.hide`."""
        return self.hide_and_throw(context, generator)[0]

    def hide_and_throw(self, context: MaskContext, generator: Generator) -> tuple[Tensor, Tensor | None]:
        """See :meth:`Masker.hide_and_throw`."""
        batch, length = context.shape
        scores = torch.rand((batch, 1, length), generator=generator, device=context.device)
        blind = context._replace(tokens=None, scores=scores / scores.sum(dim=2, keepdim=True))
        hidden, thrown = self.masker.hide_and_throw(blind, generator)
        return shuffled(hidden, thrown, generator)

    def check_grid(self, length: int) -> None:
        """As the masker's."""
        self.masker.check_grid(length)

    def extra_repr(self) -> str:
        return 'its masks, shuffled:'
