"""How a library names the tensors of an encoder, as a table that is read in both directions."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from mstkit.errors import UsageError

ENDINGS = ('', '.weight', '.bias')
# Which tokens a window keeps apart, how far apart two tokens are, and BEiT's zeros: all follow from the sizes.
COMPUTED = re.compile(r'(.*\.)?(relative_position_index|relative_coords_table|attn_mask|k_bias)')
Turn = Callable[[Tensor], Tensor]


class Pair(NamedTuple):
    """One or more tensors under both names; names stand without ``.weight`` and ``.bias``.

    Attributes:
        ours: as :class:`mstkit.models.backbones.MaskedVisionTransformer` or ``MaskedSwinTransformer`` has it.
        theirs: as the library has it; several are parts of ours along the first dimension.
        turns: how values differ, from theirs to ours and back; None where they do not.
    """

    ours: str
    theirs: str | tuple[str, ...]
    turns: tuple[Turn, Turn] | None = None

    def parts(self) -> tuple[str, ...]:
        """The library's names, one or several."""
        return (self.theirs,) if isinstance(self.theirs, str) else self.theirs


class Naming(ABC):
    """The names of one library for one kind of encoder.

    A new library is one subclass; :data:`mstkit.formats.NAMINGS` holds one object of each, and files are recognized by
    :attr:`marks`.

    Attributes:
        name: a short name, for messages and ``--from``.
        words: the name in words.
        marks: names of tensors that an encoder so named has, whatever its size, and no other one.
        also: likewise, of another version of the library; empty where there is none.
        inside: what the names of an encoder's tensors begin with; such a tensor that no :class:`Pair` knows is no part
            of the encoders that mstkit has, and is refused.
        layout: 'vit' or 'swin'.
        rotary: base of the rotary positions of encoders so named, of which no tensor tells; None for none.
        eps: of their norms, where it is not the usual one.
    """

    name: ClassVar[str]
    words: ClassVar[str]
    marks: ClassVar[tuple[str, ...]]
    also: ClassVar[tuple[str, ...]] = ()
    inside: ClassVar[str]
    layout: ClassVar[str]
    rotary: ClassVar[float | None] = None
    eps: ClassVar[float | None] = None

    def prefixes(self, names: Iterable[str]) -> list[str]:
        """What stands before the names of encoders in a file: one for each encoder that has these marks."""
        known = set(names)
        found: dict[str, None] = {}
        for marks in (self.marks, self.also):
            for name in known if marks else ():
                prefix = name.removesuffix(marks[0])
                ends = prefix != name and (not prefix or prefix.endswith('.'))
                if ends and all(prefix + mark in known for mark in marks):
                    found[prefix] = None
        return sorted(found)

    @abstractmethod
    def pairs(self, depths: Sequence[int]) -> Iterable[Pair]:
        """The table.

        Args:
            depths: number of blocks of each stage; of a ViT, one number.
        """

    @abstractmethod
    def depths(self, names: Iterable[str]) -> tuple[int, ...]:
        """The number of blocks of each stage, by the names of the library's tensors."""

    def before_reading(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The library's tensors, where more than names and values of single ones differ from ours; by default as is."""
        return dict(tensors)

    def after_writing(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The opposite of :meth:`before_reading`."""
        return tensors

    def to_ours(self, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        """Renames an encoder's tensors.

        Args:
            tensors: under the library's names, without a prefix; other tensors may be among them.

        Returns:
            Ours, and the names of those that the table does not know.

        Raises:
            UsageError: a tensor of the encoder that mstkit's have no place for, or one part of a tensor without others.
        """
        given = self.before_reading(tensors)
        found: dict[str, Tensor] = {}
        used: set[str] = {name for name in given if COMPUTED.fullmatch(name)}
        for pair in self.pairs(self.depths(given)):
            for ending in ENDINGS:
                parts = [part + ending for part in pair.parts()]
                present = [part for part in parts if part in given]
                if not present:
                    continue
                used.update(present)
                if len(present) < len(parts) and ending != '.bias':
                    absent = next(part for part in parts if part not in given)
                    raise UsageError(f'{present[0]} is there, and {absent}, which belongs to it, is not')
                # A part that has no bias, as the keys of BEiT and DINOv3, has one of zeros.
                values = [given[part] if part in given else torch.zeros_like(given[present[0]]) for part in parts]
                value = values[0] if len(values) == 1 else torch.cat(values)
                found[pair.ours + ending] = value if pair.turns is None else pair.turns[0](value)
        left = [name for name in given if name not in used]
        strange = [name for name in left if re.match(self.inside, name)]
        if strange:
            raise UsageError(
                f'{len(strange)} tensor{"s" * (len(strange) > 1)} of the encoder ({", ".join(strange[:3])}'
                f'{", …" * (len(strange) > 3)}) have no place in the ViT and Swin of mstkit'
            )
        return found, left

    def to_theirs(self, state: Mapping[str, Tensor], depths: Sequence[int]) -> dict[str, Tensor]:
        """Renames an encoder's tensors of ours, all of them.

        Args:
            state: ours, without what is computed.
            depths: see :meth:`pairs`.

        Raises:
            UsageError: the library has no name for one of them.
        """
        found: dict[str, Tensor] = {}
        left = dict(state)
        for pair in self.pairs(depths):
            for ending in ENDINGS:
                value = left.pop(pair.ours + ending, None)
                if value is None:
                    continue
                value = value if pair.turns is None else pair.turns[1](value)
                parts = pair.parts()
                pieces = value.chunk(len(parts)) if len(parts) > 1 else (value,)
                found |= {part + ending: piece.contiguous().clone() for part, piece in zip(parts, pieces, strict=True)}
        if left:
            raise UsageError(f'{self.words} has no place for {", ".join(list(left)[:3])}{", …" * (len(left) > 3)}')
        return self.after_writing(found)


def count_blocks(names: Iterable[str], pattern: str) -> int:
    """One more than the largest number that ``pattern`` finds at the front of names."""
    numbers = [int(match[1]) for name in names if (match := re.match(pattern, name))]
    return max(numbers, default=-1) + 1


def count_stages(names: Iterable[str], pattern: str) -> tuple[int, ...]:
    """Blocks of each stage, of a pattern that finds the number of the stage and that of the block."""
    last: dict[int, int] = {}
    for name in names:
        if match := re.match(pattern, name):
            stage = int(match[1])
            last[stage] = max(last.get(stage, 0), int(match[2]) + 1)
    return tuple(last[stage] for stage in sorted(last))


def in_order_of_unfold(value: Tensor) -> Tensor:
    """Weights (..., 4C) of a Swin's patch merging, from the official order to mmpretrain's.

    The official code puts the four patches of 2x2 side by side, the columns first. mmpretrain unfolds: the four values
    of a channel are together, row by row.
    """
    parts = value.unflatten(-1, (4, -1))[..., [0, 2, 1, 3], :]
    return parts.transpose(-1, -2).flatten(-2).contiguous()


def in_order_of_merging(value: Tensor) -> Tensor:
    """The opposite of :func:`in_order_of_unfold`."""
    parts = value.unflatten(-1, (-1, 4)).transpose(-1, -2)[..., [0, 2, 1, 3], :]
    return parts.flatten(-2).contiguous()


MERGING = (in_order_of_unfold, in_order_of_merging)
