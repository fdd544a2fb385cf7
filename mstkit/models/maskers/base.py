"""What a masker is, and where its randomness comes from."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Generator, Tensor, nn

from mstkit import checks
from mstkit.errors import UsageError
from mstkit.structures import Progress, TokenOutput


class Masker(nn.Module):
    """Turns what the teacher saw into a mask.

    A subclass writes :meth:`hide` and says whether it needs attention. It draws from the generator that it is given
    and from nothing else: before each iteration that generator is keyed by the rank's seed and the iteration, so ranks
    differ and a resumed run repeats what the uninterrupted one drew, with nothing to save.

    Attributes:
        needs_attention: whether ``tokens.attention`` has to be there; without a masker that asks, nobody computes it.
        needs_patches: whether the values of ``tokens.patch_tokens`` have to be there; their shape always is. One that
            does not need them says so, and a teacher of which nobody else needs them is spared the work.
        layer: the block whose attention it has to be, from the end (-1 is the last).
    """

    needs_attention: bool = False
    needs_patches: bool = True
    layer: int = -1

    def __init__(self) -> None:
        super().__init__()
        self._key: tuple[int, int] = (0, 0)
        self._generators: dict[torch.device, Generator] = {}

    def set_progress(self, progress: Progress) -> None:
        """Keys the randomness of the coming iteration."""
        self._key = (progress.rank_seed, progress.iteration)
        self._generators.clear()

    def parts(self) -> list[Masker]:
        """The maskers that decide: this one, or those of a composition."""
        return [self]

    def forward(self, tokens: TokenOutput) -> Tensor:
        """Decides what to hide.

        Args:
            tokens: the teacher's, of B images on an (h, w) grid.

        Returns:
            (B, h, w) bool, True = hidden.
        """
        if self.needs_attention and tokens.attention is None:
            raise UsageError(f'{type(self).__name__} needs attention, and the tokens that it was given have none')
        hidden = self.hide(tokens, self._generator(tokens.patch_tokens.device))
        return hidden.view(len(hidden), *tokens.grid)

    @abstractmethod
    def hide(self, tokens: TokenOutput, generator: Generator) -> Tensor:
        """Decides on the flat grid.

        Args:
            tokens: the teacher's.
            generator: the only source of randomness, on the tokens' device.

        Returns:
            (B, L) bool, True = hidden.
        """

    def check_grid(self, length: int) -> None:
        """Refuses a grid on which this masker's promise cannot be kept; L patches. Raises UsageError."""

    def check_view(self, backbone: Any, size: int) -> None:
        """Refuses square views of ``size`` px on a ``MaskedBackbone``: their grid, or the block that is to guide.

        Raises:
            UsageError: with what does fit.
        """
        self.check_grid((size // backbone.stride) ** 2)
        for part in self.parts():
            if part.needs_attention:
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
