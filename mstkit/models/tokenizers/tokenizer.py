"""Base class of tokenizers: frozen networks that map every patch of an image to one of K token ids."""

from __future__ import annotations

import os
from abc import abstractmethod

from torch import Tensor, nn

from mstkit.models.building import build_of_kind
from mstkit.models.tokenizers.tokenizer_file import read_tokenizer


class Tokenizer(nn.Module):
    """Maps every patch of an image to one of K token ids, the target of BEiT; frozen during pre-training.

    Its input is pixels, which it normalizes and resizes itself, so that it does not depend on the student's
    preprocessing. A subclass sets :attr:`codes` and :attr:`name` and implements :meth:`forward`.

    Attributes:
        codes: K, the size of the codebook.
        name: a description for the log of a run, such as 'k-means tokens of FILE'.
    """

    codes: int
    name: str

    @abstractmethod
    def forward(self, pixels: Tensor, grid: tuple[int, int]) -> Tensor:
        """Computes the token ids; called without gradient.

        Args:
            pixels: (B, 3, H, W) float32 RGB, 0 to 255.
            grid: (h, w), the student's patches, which may differ from the tokenizer's own grid.

        Returns:
            (B, h * w) int64 below K, patches row-major.
        """

    def to_pixels(self, ids: Tensor, grid: tuple[int, int], side: int) -> Tensor | None:
        """Draws ids as images, one example patch per code; None if there are no examples.

        Args:
            ids: (B, L) int64.
            grid: (h, w), h * w = L.
            side: of a patch, in pixels.

        Returns:
            (B, 3, h * side, w * side) float32, 0 to 255.
        """
        return None

    def in_words(self) -> str:
        """Size and usage of the codebook, for the log of a run."""
        return f'{self.codes} codes'

    def train(self, mode: bool = True) -> Tokenizer:
        """Stays in evaluation mode."""
        return super().train(False)

    def extra_repr(self) -> str:
        return f'{self.name}, codes={self.codes}'


def build_tokenizer(tokenizer: dict | Tokenizer | str | os.PathLike[str]) -> Tokenizer:
    """Builds a tokenizer.

    Args:
        tokenizer: a file written by tools/train_tokenizer.py, in which the class is named, or DALL-E's state dict; the
            config of a tokenizer; or a :class:`Tokenizer`, which is returned as it is.

    Raises:
        UsageError: a missing file, a file without a tokenizer, or a component that is no tokenizer.
    """
    if isinstance(tokenizer, str | os.PathLike):
        tokenizer = dict(type=read_tokenizer(tokenizer).kind, file=os.fspath(tokenizer))
    built = build_of_kind(tokenizer, Tokenizer, 'a tokenizer')  # type: ignore[type-abstract]
    return built.requires_grad_(False).eval()
