"""Collects the unreadable image files of a data set and raises an error if there are too many."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.structures import BaseDataElement

from mstkit.errors import UsageError
from mstkit.utils.checks import check_count, check_number

MAX_FRACTION = 0.01
MIN_FILES = 5
_LARGEST_SHARE = 0.25  # limit of min_files, as a share of a small data set


def replaced_in(batch: Any) -> dict[str, str]:
    """The unreadable files that were replaced in a batch, each with the reason.

    Args:
        batch: from a data loader; empty result for anything but a dict with ``data_samples``.
    """
    samples = batch.get('data_samples') or () if isinstance(batch, dict) else ()
    found: dict[str, str] = {}
    for sample in samples:
        paths = sample.get('replaced') if isinstance(sample, BaseDataElement) else None
        if paths:
            found.update(zip(paths, sample.get('replaced_reasons') or [''] * len(paths), strict=True))
    return found


class UnreadableFiles:
    """The distinct unreadable files of one data set, with a limit on their number.

    The limit is ``max_fraction`` of the data set, or ``min_files`` if that is more, but the latter at most a quarter of
    the data set: one unreadable file of 60 is tolerated, five of six are not.

    Args:
        max_fraction: unreadable files / size of the data set, from 0 to 1.
        min_files: number that is tolerated in a small data set.
        owner: name of the component with these settings, for messages.

    Attributes:
        reasons: the reason for each path, in the order of occurrence.
    """

    def __init__(
        self, max_fraction: float = MAX_FRACTION, min_files: int = MIN_FILES, owner: str = 'UnreadableFiles'
    ) -> None:
        self.max_fraction = check_number(f'{owner}.max_fraction', max_fraction, 0, 1)
        self.min_files = check_count(f'{owner}.min_files', min_files, 0)
        self.owner = owner
        self.reasons: dict[str, str] = {}

    def add(self, found: Mapping[str, str]) -> dict[str, str]:
        """Adds files and returns those that are new."""
        new = {path: reason for path, reason in found.items() if path not in self.reasons}
        self.reasons.update(new)
        return new

    def allowed(self, size: int) -> int:
        """The maximum number of unreadable files in a data set of ``size`` images."""
        return int(max(self.max_fraction * size, min(self.min_files, _LARGEST_SHARE * size)))

    def check(self, size: int, option: str | None = None) -> None:
        """Raises an error if there are too many.

        Args:
            size: number of images in the data set.
            option: the setting to raise, as written in a config or after ``--cfg-options``.

        Raises:
            UsageError: with the numbers, the first file, and ``option``.
        """
        if len(self.reasons) <= self.allowed(size):
            return
        path, reason = next(iter(self.reasons.items()))
        share = min(1.0, len(self.reasons) / size)
        # Rounded up to a thousandth, so that the suggested value suffices for the files found so far.
        enough = min(1.0, (int(1000 * share) + 1) / 1000)
        raise UsageError(
            f'{len(self.reasons)} of the {size} images cannot be read, which is more than {100 * self.max_fraction:g} '
            f'% and more than {min(self.min_files, int(_LARGEST_SHARE * size))} files, for instance {path} '
            f'({reason or "no reason given"}): check that the data set was copied completely, remove the broken files, '
            f'or allow more with {option or f"{self.owner}.max_fraction"}={enough:g}.'
        )

    def summary(self, size: int) -> str:
        """One line on the unreadable files of a data set of ``size`` images."""
        count = len(self.reasons)
        return f'{count} of {size} files could not be read and were replaced' if count else 'all could be read'
