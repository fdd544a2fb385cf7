"""What a masker is, and where its randomness comes from."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Generator, Tensor, nn

from mstkit.errors import UsageError
from mstkit.structures import MaskContext, Progress
from mstkit.utils import checks


class Masker(nn.Module):
    """Decides what to hide, from what it is told of the images.

    A subclass writes :meth:`hide` and says what it needs to know. It draws from the generator that it is given and
    from nothing else: before each iteration that generator is keyed by the rank's seed and the iteration, so ranks
    differ and a resumed run repeats what the uninterrupted one drew, with nothing to save.

    Attributes:
        needs_scores: whether ``context.scores`` has to be there; without a masker that asks, nobody computes attention.
        needs_tokens: whether ``context.tokens`` has to be there.
        layer: the block of the guide whose attention the scores are, from the end (-1 is the last).
    """

    needs_scores: bool = False
    needs_tokens: bool = False
    layer: int = -1

    def __init__(self) -> None:
        super().__init__()
        self._key: tuple[int, int] = (0, 0)
        self._generators: dict[torch.device, Generator] = {}

    def set_progress(self, progress: Progress) -> None:
        """Keys the randomness of the coming iteration."""
        self._key = (progress.rank_seed, progress.iteration)
        self._generators.clear()

    @property
    def equal_counts(self) -> bool:
        """Whether all images of a batch always have equally many hidden patches, so the visible ones fit a tensor."""
        return False

    def parts(self) -> list[Masker]:
        """The maskers that decide: this one, or those of a composition."""
        return [self]

    def forward(self, context: MaskContext) -> Tensor:
        """Decides what to hide.

        Args:
            context: B images on an (h, w) grid.

        Returns:
            (B, h, w) bool, True = hidden.
        """
        for name in ('scores', 'tokens'):
            if getattr(self, f'needs_{name}') and getattr(context, name) is None:
                raise UsageError(f'{type(self).__name__} needs the {name} of a guide, and was given none')
        hidden = self.hide(context, self._generator(context.device))
        return hidden.view(len(hidden), *context.grid)

    @abstractmethod
    def hide(self, context: MaskContext, generator: Generator) -> Tensor:
        """Decides on the flat grid.

        Args:
            context: what may be looked at.
            generator: the only source of randomness, on the images' device.

        Returns:
            (B, L) bool, True = hidden.
        """

    def check_grid(self, length: int) -> None:
        """Refuses a grid on which this masker's promise cannot be kept; L patches. Raises UsageError."""

    def check_view(self, backbone: Any, size: int, cell: int = 1) -> None:
        """Refuses square views of ``size`` px on a ``MaskedBackbone``: their grid, or the block that is to guide.

        Args:
            backbone: of which a mask hides patch tokens.
            size: in pixels.
            cell: patch tokens along a side of what is hidden or shown as one.

        Raises:
            UsageError: with what does fit.
        """
        unit = backbone.stride * cell
        if cell > 1 and size % unit:
            below, above = size - size % unit, size - size % unit + unit
            raise UsageError(
                f'mask_patch_size={unit} does not divide views of {size} px: use {f"{below} or " if below else ""}'
                f'{above} px, or another mask_patch_size'
            )
        self.check_grid((size // unit) ** 2)
        for part in self.parts():
            if part.needs_scores:
                backbone.check_attention_layer(part.layer, size)

    def _generator(self, device: torch.device) -> Generator:
        if device not in self._generators:
            seed = (self._key[0] * 1_000_003 + self._key[1]) % 2**63
            self._generators[device] = Generator(device).manual_seed(seed)
        return self._generators[device]


def check_probability(value: float, name: str, owner: object) -> float:
    """Refuses what is not a number in [0, 1]."""
    return checks.check_probability(f'{type(owner).__name__}.{name}', value)


def check_layer(layer: int, owner: object) -> int:
    """Refuses what does not count blocks from the end."""
    name = f'{type(owner).__name__}.layer'
    if isinstance(layer, int) and layer >= 0:
        raise UsageError(f'{name} counts blocks from the end, so it is -1 (the last) or below, not {layer!r}')
    return checks.check_count(name, layer, -(2**20))
