"""Discrete tokens of each patch, the target of BEiT."""

from __future__ import annotations

import torch
from torch import Tensor

from mstkit.errors import UsageError
from mstkit.models.targets.target import Target
from mstkit.models.tokenizers import Tokenizer, build_tokenizer
from mstkit.registry import MODELS
from mstkit.structures import TokenOutput

# ImageNet's, until the pretrainer calls set_normalization.
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@MODELS.register_module()
class Tokens(Target):
    """The token ids that a tokenizer assigns to the patches of the unmasked image (BEiT, Bao et al., ICLR 2022, 2.1).

    The tokenizer gets the student's view, converted back to pixels (0 to 255). BEiT's code resizes the same crop to a
    separate image for the tokenizer instead.

    Args:
        patch_size: see :class:`Target`.
        tokenizer: a file written by tools/train_tokenizer.py, or the config of a :class:`Tokenizer`.

    Raises:
        UsageError: a file that is missing or holds no tokenizer.
    """

    discrete = True
    mean: Tensor
    std: Tensor

    def __init__(self, patch_size: int, tokenizer: dict | Tokenizer | str) -> None:
        super().__init__(patch_size)
        try:
            self.tokenizer = build_tokenizer(tokenizer)
        except UsageError as error:
            raise UsageError(f'Tokens.tokenizer: {error}') from error
        self.dims = self.tokenizer.codes
        self.set_normalization(torch.tensor(MEAN), torch.tensor(STD))

    def set_normalization(self, mean: Tensor, std: Tensor) -> None:
        """See :meth:`Target.set_normalization`."""
        self.register_buffer('mean', mean.view(1, -1, 1, 1).clone(), persistent=False)
        self.register_buffer('std', std.view(1, -1, 1, 1).clone(), persistent=False)

    def forward(self, images: Tensor, grid: tuple[int, int], teacher: TokenOutput | None = None) -> Tensor:
        """See :meth:`Target.forward`."""
        return self.tokenizer(images.float() * self.std + self.mean, grid)

    def to_images(self, predicted: Tensor, images: Tensor, grid: tuple[int, int]) -> Tensor | None:
        """See :meth:`Target.to_images`; the example patch of the most probable code."""
        pixels = self.tokenizer.to_pixels(predicted.argmax(dim=-1), grid, self.patch_size)
        return None if pixels is None else (pixels - self.mean) / self.std
