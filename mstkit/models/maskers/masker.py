"""Base class of maskers, which decide which patches of an image are hidden."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Generator, Tensor, nn

from mstkit.errors import UsageError
from mstkit.structures import DrawnMask, MaskContext, Progress
from mstkit.utils import checks


class Masker(nn.Module):
    """Decides which patches are hidden, and perhaps which are thrown.

    A subclass implements :meth:`hide` and sets the attributes below. All random draws have to use the generator that
    :meth:`hide` receives. It is seeded for each iteration by the rank's seed and the iteration, so masks differ between
    ranks, and a resumed run draws the same masks as an uninterrupted one without saving any state.

    Attributes:
        needs_scores: whether the masker uses ``context.scores``; if not, no attention is computed.
        needs_tokens: whether the masker uses ``context.tokens``.
        throws: whether it throws patches as well: they are neither encoded nor predicted (AMT). Such a masker overrides
            :meth:`hide_and_throw`, and a method refuses it whose encoder has a token in every place.
        ratio: the smallest and the largest share of patches to hide; None in a masker that is told it otherwise.
        layer: the guide's block whose attention gives the scores, from the end (-1 is the last).
        exclude_cls_key: rank by attention over the patches alone; see :func:`functional.importance_of`.
    """

    needs_scores: bool = False
    needs_tokens: bool = False
    throws: bool = False
    ratio: tuple[float, float] | None = None
    layer: int = -1
    exclude_cls_key: bool = False

    def __init__(self) -> None:
        super().__init__()
        self._key: tuple[int, int] = (0, 0)
        self._generators: dict[torch.device, Generator] = {}

    def set_progress(self, progress: Progress) -> None:
        """Seeds the random draws of the coming iteration."""
        self._key = (progress.rank_seed, progress.iteration)
        self._generators.clear()

    @property
    def equal_counts(self) -> bool:
        """Whether all images of a batch have equally many hidden patches, so visible ones need no padding."""
        return False

    @property
    def visible_per_square(self) -> tuple[int, int] | None:
        """The least and the largest number of visible patches in each 2×2 of an even grid, of every image.

        None, the default, promises nothing. A Swin can leave patches out only where at most one is visible.
        """
        return None

    @property
    def varies(self) -> bool:
        """Whether two draws for the same image, scores and tokens can differ. Several masks of an image need that."""
        return True

    def needs_scores_in(self, epoch: int) -> bool:
        """Whether it uses ``context.scores`` in an epoch, from 0; only a schedule's answer depends on the epoch."""
        return self.needs_scores

    def parts(self) -> list[Masker]:
        """The maskers that decide: this one, or for a schedule those that it wraps."""
        return [self]

    def forward(self, context: MaskContext) -> Tensor:
        """The hidden patches that :meth:`draw` draws: (B, h, w) bool, True = hidden."""
        return self.draw(context).hidden

    def draw(self, context: MaskContext) -> DrawnMask:
        """Draws the masks of a batch of B images on an (h, w) grid; in one iteration, each call draws others."""
        for name in ('scores', 'tokens'):
            if getattr(self, f'needs_{name}') and getattr(context, name) is None:
                raise UsageError(f'{type(self).__name__} needs {name} of a guide, but context.{name} is None')
        hidden, thrown = self.hide_and_throw(context, self._generator(context.device))
        shape = (len(hidden), *context.grid)
        return DrawnMask(hidden.view(shape), None if thrown is None else thrown.view(shape))

    @abstractmethod
    def hide(self, context: MaskContext, generator: Generator) -> Tensor:
        """Draws the masks on the flat grid.

        Args:
            context: images, grid and, if needed, the guide's scores and tokens.
            generator: the only source of randomness, on the images' device.

        Returns:
            (B, L) bool, True = hidden.
        """

    def hide_and_throw(self, context: MaskContext, generator: Generator) -> tuple[Tensor, Tensor | None]:
        """Draws hidden and thrown patches on the flat grid; arguments as in :meth:`hide`.

        Returns:
            (B, L) bool, True = hidden, and likewise of the thrown ones; None if none are thrown.
        """
        return self.hide(context, generator), None

    def check_grid(self, length: int) -> None:
        """Refuses a grid of ``length`` patches that does not suit the masker's arguments. Raises UsageError."""

    def check_view(self, backbone: Any, size: int, cell: int = 1) -> None:
        """Refuses a view size, or a guiding block, that does not suit masker and backbone.

        Args:
            backbone: the student's ``MaskedBackbone``.
            size: side of the square views in pixels.
            cell: patch tokens along a side of the squares that are hidden or kept as a whole (``mask_patch_size``).

        Raises:
            UsageError: with sizes or blocks that fit.
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
    """Refuses a layer that is not a negative whole number, which counts blocks from the end."""
    name = f'{type(owner).__name__}.layer'
    if isinstance(layer, int) and layer >= 0:
        raise UsageError(f'{name} counts blocks from the end, so it is -1 (the last) or below, not {layer!r}')
    return checks.check_count(name, layer, -(2**20))
