"""Masking that changes during training: another strategy or another ratio, depending on the epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

from mstkit.errors import UsageError
from mstkit.models.maskers.masker import Masker
from mstkit.models.maskers.masking_ratio import Ratio, check_ratio
from mstkit.registry import MODELS
from mstkit.structures import MaskContext, Progress
from mstkit.utils.checks import check_count


def build_masker(masker: dict | Masker | str | None) -> Masker | None:
    """Builds a masker from a config or a component; None or 'none' gives None, which hides nothing.

    Raises:
        UsageError: a component that is no masker.
    """
    if masker is None or (isinstance(masker, str) and masker.lower() == 'none'):
        return None
    built = MODELS.build(masker) if isinstance(masker, dict) else masker
    if not isinstance(built, Masker):
        raise UsageError(f'{masker!r} is not a masker')
    return built


@MODELS.register_module()
class MaskerSchedule(Masker):
    """Different maskers in different phases of a run, None (nothing hidden) among them.

    For example nothing for the first 50 epochs, as iBOT does with Swin, then AttMask-Hint::

        masker=dict(type='MaskerSchedule', phases=[(0, None), (50, dict(type='AttMaskHint'))])

    Args:
        phases: pairs of a phase's first epoch, counted from 0, and its masker.

    Raises:
        UsageError: no phase, a first one that does not start at 0, or epochs that do not increase.
    """

    def __init__(self, phases: Sequence[tuple[int, dict | Masker | str | None]]) -> None:
        super().__init__()
        if not isinstance(phases, Sequence) or not all(isinstance(p, tuple | list) and len(p) == 2 for p in phases):
            raise UsageError(f'MaskerSchedule: phases are pairs of an epoch and a masker, not {phases!r}')
        self.starts = [start for start, _ in phases]
        whole = all(isinstance(start, int) and not isinstance(start, bool) for start in self.starts)
        if not whole or self.starts[:1] != [0] or self.starts != sorted(set(self.starts)):
            raise UsageError(f'MaskerSchedule: the phases start at epoch 0 and at later ones, not at {self.starts}')
        self.maskers = nn.ModuleDict()
        for index, (_, masker) in enumerate(phases):
            try:
                built = build_masker(masker)
            except UsageError as error:
                raise UsageError(f'MaskerSchedule.phases[{index}]: {error}') from error
            if built is not None:
                self.maskers[str(index)] = built
        self._phase = 0

    @property
    def current(self) -> Masker | None:
        """The masker of the current phase; None if it hides nothing."""
        return self._of_phase(self._phase)

    @property
    def needs_scores(self) -> bool:  # type: ignore[override]
        """That of the current phase's masker; False in a phase that hides nothing."""
        return self.current is not None and self.current.needs_scores

    @property
    def needs_tokens(self) -> bool:  # type: ignore[override]
        """That of the current phase's masker; False in a phase that hides nothing."""
        return self.current is not None and self.current.needs_tokens

    @property
    def throws(self) -> bool:  # type: ignore[override]
        """Whether the masker of any phase does."""
        return any(masker.throws for masker in self.maskers.values())

    @property
    def equal_counts(self) -> bool:
        """Whether it holds in every phase; it does in a phase that hides nothing."""
        return all(masker.equal_counts for masker in self.maskers.values())

    @property
    def visible_per_square(self) -> tuple[int, int] | None:
        """See :attr:`Masker.visible_per_square`: that of all phases, if it is the same and none hides nothing."""
        phases = [self._of_phase(phase) for phase in range(len(self.starts))]
        promised = {None if masker is None else masker.visible_per_square for masker in phases}
        return promised.pop() if len(promised) == 1 else None

    @property
    def varies(self) -> bool:
        """Whether it holds in every phase; not in one that hides nothing, where all copies of an image are alike."""
        return len(self.maskers) == len(self.starts) and all(masker.varies for masker in self.maskers.values())

    @property
    def layer(self) -> int:  # type: ignore[override]
        """That of the current phase's masker."""
        return -1 if self.current is None else self.current.layer

    def needs_scores_in(self, epoch: int) -> bool:
        """See :meth:`Masker.needs_scores_in`."""
        masker = self._of_phase(self._phase_at(epoch))
        return masker is not None and masker.needs_scores_in(epoch)

    def parts(self) -> list[Masker]:
        """See :meth:`Masker.parts`."""
        return [part for masker in self.maskers.values() for part in masker.parts()]  # type: ignore[operator]

    def set_progress(self, progress: Progress) -> None:
        """See :meth:`Masker.set_progress`; also selects the phase."""
        super().set_progress(progress)
        self._phase = self._phase_at(progress.epoch)
        if self.current is not None:
            self.current.set_progress(progress)

    def _phase_at(self, epoch: int) -> int:
        return sum(start <= epoch for start in self.starts) - 1

    def _of_phase(self, phase: int) -> Masker | None:
        return dict(self.maskers).get(str(phase))  # type: ignore[return-value]

    def hide(self, context: MaskContext, generator: Generator) -> Tensor:
        """See :meth:`Masker.hide`."""
        return self.hide_and_throw(context, generator)[0]

    def hide_and_throw(self, context: MaskContext, generator: Generator) -> tuple[Tensor, Tensor | None]:
        """See :meth:`Masker.hide_and_throw`."""
        if self.current is None:
            return torch.zeros(context.shape, dtype=torch.bool, device=context.device), None
        return self.current.hide_and_throw(context, generator)

    def check_grid(self, length: int) -> None:
        """See :meth:`Masker.check_grid`; for the masker of every phase."""
        for masker in self.maskers.values():
            masker.check_grid(length)  # type: ignore[operator]


@MODELS.register_module()
class RatioSchedule(Masker):
    """Interpolates the ratio of a masker linearly from one value or range to another, once per epoch.

    Args:
        masker: any masker with a ``ratio``.
        start: the ratio, or its range, in the first epoch.
        end: the ratio, or its range, after ``epochs`` epochs.
        epochs: length of the transition.

    Raises:
        UsageError: a masker without ``ratio``, invalid ratios, fewer than one epoch.
    """

    masker: Any

    def __init__(self, masker: dict | Masker | str | None, start: Ratio, end: Ratio, epochs: int) -> None:
        super().__init__()
        built = build_masker(masker)
        if built is None or built.ratio is None:
            raise UsageError(f'RatioSchedule needs a masker with a ratio, but {masker!r} has none')
        check_count('RatioSchedule.epochs', epochs, 1)
        self.masker = built
        self.start, self.end, self.epochs = check_ratio(start, self, 'start'), check_ratio(end, self, 'end'), epochs
        equal, varies = [], []
        for ratio in (self.end, self.start):
            self.masker.ratio = ratio
            equal.append(self.masker.equal_counts)
            varies.append(self.masker.varies)
        self._equal_counts, self._varies = all(equal), all(varies)

    @property
    def needs_scores(self) -> bool:  # type: ignore[override]
        """As the masker's."""
        return self.masker.needs_scores

    @property
    def needs_tokens(self) -> bool:  # type: ignore[override]
        """As the masker's."""
        return self.masker.needs_tokens

    @property
    def throws(self) -> bool:  # type: ignore[override]
        """As the masker's."""
        return self.masker.throws

    @property
    def equal_counts(self) -> bool:
        """Whether it holds with the ratio of the start and with that of the end."""
        return self._equal_counts

    @property
    def varies(self) -> bool:
        """Whether it holds with the ratio of the start and with that of the end."""
        return self._varies

    @property
    def layer(self) -> int:  # type: ignore[override]
        """As the masker's."""
        return self.masker.layer

    def needs_scores_in(self, epoch: int) -> bool:
        """As the masker's."""
        return self.masker.needs_scores_in(epoch)

    def parts(self) -> list[Masker]:
        """See :meth:`Masker.parts`."""
        return self.masker.parts()

    def ratio_at(self, epoch: int) -> tuple[float, float]:
        """The range (lowest, highest) in an epoch, from 0; both ends are interpolated linearly."""
        share = min(epoch / self.epochs, 1.0)
        low, high = (a + share * (b - a) for a, b in zip(self.start, self.end, strict=True))
        return low, high

    def set_progress(self, progress: Progress) -> None:
        """See :meth:`Masker.set_progress`; also sets the ratio of the epoch."""
        super().set_progress(progress)
        self.masker.ratio = self.ratio_at(progress.epoch)
        self.masker.set_progress(progress)

    def hide(self, context: MaskContext, generator: Generator) -> Tensor:
        """See :meth:`Masker.hide`."""
        return self.masker.hide(context, generator)

    def hide_and_throw(self, context: MaskContext, generator: Generator) -> tuple[Tensor, Tensor | None]:
        """See :meth:`Masker.hide_and_throw`."""
        return self.masker.hide_and_throw(context, generator)

    def check_grid(self, length: int) -> None:
        """See :meth:`Masker.check_grid`; not with a lower ratio at the start, which may hide nothing at first."""
        before = self.masker.ratio
        for ratio in {self.end, max(self.start, self.end)}:
            self.masker.ratio = ratio
            self.masker.check_grid(length)
        self.masker.ratio = before
