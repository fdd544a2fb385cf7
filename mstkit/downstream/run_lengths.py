"""Checks COCO's run-length masks."""

from __future__ import annotations

from collections.abc import Sequence

_ZERO, _MORE, _NEGATIVE = 48, 32, 16  # compressed counts: offset and flags of characters with 5 bits each


def fault_of(counts: Sequence[int] | str, height: int, width: int) -> str | None:
    """The error in a mask's counts, as a clause; None if they are valid.

    Args:
        counts: run lengths by columns, beginning with the zeros; or the same as COCO's compressed text.
        height, width: of the mask, px.
    """
    if isinstance(counts, str):
        decoded = _decoded(counts)
        if decoded is None:
            return 'its counts are not a valid compressed text'
        counts = decoded
    if not all(isinstance(count, int) and count >= 0 for count in counts):
        return 'its counts are not all whole numbers from 0'
    if sum(counts) != height * width:
        return f'its counts are of {sum(counts)} pixels and not of {height} x {width} = {height * width}'
    return None


def _decoded(text: str) -> list[int] | None:
    """Decodes compressed counts to run lengths; None if invalid.

    From the fourth on they are stored as differences to the run length two places before.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - _ZERO
        if not 0 <= code < 64:
            return None
        value |= (code & 31) << shift
        shift += 5
        if code & _MORE:
            continue
        if code & _NEGATIVE:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return runs if shift == 0 else None
