"""What a tokenizer is: from images to one of K ids for every patch."""

from __future__ import annotations

import os
from abc import abstractmethod

from torch import Tensor, nn

from mstkit.models.building import build_of_kind
from mstkit.models.tokenizers.tokenizer_file import read_tokenizer


class Tokenizer(nn.Module):
    """Says of each patch of an image which of K codes it is; nothing in it is trained any more.

    It knows nothing of the student: it gets pixels, and normalizes and resizes them as it needs. A subclass sets
    :attr:`codes` and :attr:`name` and writes :meth:`forward`.

    Attributes:
        codes: K.
        name: in words, for the log of a run: 'k-means tokens of FILE'.
    """

    codes: int
    name: str

    @abstractmethod
    def forward(self, pixels: Tensor, grid: tuple[int, int]) -> Tensor:
        """The ids of patches; called without gradient.

        Args:
            pixels: (B, 3, H, W) float32 RGB, 0 to 255.
            grid: (h, w), the patches that are asked for, whatever grid the tokenizer itself has.

        Returns:
            (B, h * w) int64 below K, patches row-major.
        """

    def to_pixels(self, ids: Tensor, grid: tuple[int, int], side: int) -> Tensor | None:
        """Ids as images that a person can look at; None where codes have no example.

        Args:
            ids: (B, L) int64.
            grid: (h, w), h * w = L.
            side: of a patch, in pixels.

        Returns:
            (B, 3, h * side, w * side) float32, 0 to 255.
        """
        return None

    def in_words(self) -> str:
        """What is worth knowing of it, for the log of a run."""
        return f'{self.codes} codes'

    def train(self, mode: bool = True) -> Tokenizer:
        """Stays in evaluation mode."""
        return super().train(False)

    def extra_repr(self) -> str:
        return f'{self.name}, codes={self.codes}'


def build_tokenizer(tokenizer: dict | Tokenizer | str | os.PathLike[str]) -> Tokenizer:
    """Builds what a config has in the place of a tokenizer.

    Args:
        tokenizer: a file of tools/train_tokenizer.py's, which says itself of which kind it is, or DALL-E's; the config
            of a tokenizer; or one that is built.

    Raises:
        UsageError: a file that is missing or is none of a tokenizer; a component that is no tokenizer.
    """
    if isinstance(tokenizer, str | os.PathLike):
        tokenizer = dict(type=read_tokenizer(tokenizer).kind, file=os.fspath(tokenizer))
    built = build_of_kind(tokenizer, Tokenizer, 'a tokenizer')  # type: ignore[type-abstract]
    return built.requires_grad_(False).eval()
