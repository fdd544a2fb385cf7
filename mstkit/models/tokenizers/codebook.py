"""Tokenizers with a codebook: the id of a patch is that of the most similar of K vectors."""

from __future__ import annotations

import os
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from mstkit.errors import UsageError
from mstkit.models.tokenizers.patch_features import PatchFeatures
from mstkit.models.tokenizers.tokenizer import Tokenizer
from mstkit.models.tokenizers.tokenizer_file import TokenizerFile, read_tokenizer

ROWS = 1 << 16  # features that are compared with all codes at once: bounds the memory


class CodebookTokenizer(Tokenizer):
    """The id of a patch is that of the codebook vector with the highest cosine similarity to the patch's features.

    Codebook and feature extractor (a network with its weights, for example) come from one file, which
    tools/train_tokenizer.py writes. Ids are computed in float32 whatever the precision of the training, so that they do
    not depend on it.

    Args:
        file: written by tools/train_tokenizer.py.

    Attributes:
        source: the feature extractor.
        about: how the tokenizer was trained, from the file.

    Raises:
        UsageError: the file is missing, damaged, or of another kind.
    """

    label: ClassVar[str]
    source_type: ClassVar[type[PatchFeatures]]
    centers: Tensor
    examples: Tensor | None

    def __init__(self, file: str | os.PathLike[str]) -> None:
        super().__init__()
        content = read_tokenizer(file)
        kind = type(self).__name__
        if content.kind != kind:
            raise UsageError(f'file {os.fspath(file)} holds a {content.kind}, no {kind}: give type={content.kind!r}')
        self.name = f'{self.label} tokens of {os.fspath(file)}'
        self.source = load_features(self.source_type, content, os.fspath(file))
        self.about: dict[str, Any] = content.about
        if content.centers.shape[1] != self._center_dims():
            raise UsageError(
                f'file {os.fspath(file)}: centers of {content.centers.shape[1]} values and features of '
                f'{self._center_dims()} do not fit each other'
            )
        self.codes = len(content.centers)
        self.register_buffer('centers', content.centers.float())
        self.register_buffer('examples', content.examples, persistent=False)

    def in_words(self) -> str:
        """See :meth:`Tokenizer.in_words`; with the feature extractor's name, where the file has it."""
        used, perplexity, network = (self.about.get(name) for name in ('used', 'perplexity', 'network'))
        known = isinstance(used, int) and isinstance(perplexity, float)
        use = f', {used} in use, perplexity {perplexity:.1f}' if known else ''
        return f'{self.codes} codes{use}' + (f', features of {network}' if network else '')

    def _center_dims(self) -> int:
        return self.source.dims

    def forward(self, pixels: Tensor, grid: tuple[int, int]) -> Tensor:
        """See :meth:`Tokenizer.forward`."""
        with torch.autocast(pixels.device.type, enabled=False):
            features = self.source(pixels.float(), grid)
            return nearest_codes(features.flatten(0, 1), self.centers).view(features.shape[:2])

    def to_pixels(self, ids: Tensor, grid: tuple[int, int], side: int) -> Tensor | None:
        """See :meth:`Tokenizer.to_pixels`; the example of a code is the training patch most similar to it."""
        if self.examples is None:
            return None
        cells = F.interpolate(self.examples.float(), (side, side), mode='bilinear', antialias=True)
        parts = cells[ids].unflatten(1, grid)  # (B, h, w, 3, side, side)
        return parts.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


def load_features(kind: type[PatchFeatures], content: TokenizerFile, file: str) -> PatchFeatures:
    """Builds the feature extractor of a tokenizer and loads its weights from the file's content.

    Raises:
        UsageError: the settings or the weights do not fit.
    """
    try:
        built = kind(**content.settings)
        built.load_state_dict(content.features, strict=True)
    except (TypeError, RuntimeError) as error:  # settings of another class; tensors that are missing or misshapen
        raise UsageError(f'file {file} does not fit {kind.__name__}: {" ".join(str(error).split())[:200]}') from error
    except UsageError as error:
        raise UsageError(f'file {file}: {error}') from error
    return built.requires_grad_(False).eval()


def nearest_codes(features: Tensor, centers: Tensor) -> Tensor:
    """Assigns each feature to the codebook vector with the highest cosine similarity (the first of equal ones).

    Args:
        features: (M, D) float32, not necessarily normalized.
        centers: (K, D), L2-normalized.

    Returns:
        (M,) int64.
    """
    found = [(F.normalize(part, dim=1) @ centers.T).argmax(dim=1) for part in features.split(ROWS)]
    return torch.cat(found) if found else features.new_zeros(0, dtype=torch.int64)
