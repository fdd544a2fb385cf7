"""Image files that could not be read: found in batches, counted, and refused when they are too many."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mstkit.errors import UsageError
from mstkit.utils.checks import check_count, check_number

MAX_FRACTION = 0.01
MIN_FILES = 5
_LARGEST_SHARE = 0.25  # of a small data set, however many files are always allowed


def replaced_in(batch: Any) -> dict[str, str]:
    """The files that a batch has other images in place of, each with the reason.

    Args:
        batch: what a data loader gives; only a dict with ``data_samples`` can tell.
    """
    samples = batch.get('data_samples') or () if isinstance(batch, dict) else ()
    found: dict[str, str] = {}
    for sample in samples:
        paths = getattr(sample, 'replaced', None)
        if paths:
            found.update(zip(paths, getattr(sample, 'replaced_reasons', None) or [''] * len(paths), strict=True))
    return found


class UnreadableFiles:
    """The distinct files of one data set that could not be read, and how many are tolerated.

    Tolerated are ``max_fraction`` of the data set, and in a small one ``min_files``, but then at most a quarter of it:
    one broken file of 60 is no reason to stop, five broken ones of six are.

    Args:
        max_fraction: unreadable files / size of the data set, from 0 to 1.
        min_files: how many are tolerated however small that fraction of the data set is.
        owner: whose settings these two are, for messages.

    Attributes:
        reasons: each path with the reason why it could not be read, in the order in which they were met.
    """

    def __init__(
        self, max_fraction: float = MAX_FRACTION, min_files: int = MIN_FILES, owner: str = 'UnreadableFiles'
    ) -> None:
        self.max_fraction = check_number(f'{owner}.max_fraction', max_fraction, 0, 1)
        self.min_files = check_count(f'{owner}.min_files', min_files, 0)
        self.owner = owner
        self.reasons: dict[str, str] = {}

    def add(self, found: Mapping[str, str]) -> dict[str, str]:
        """Takes note of files; gives those among them that are new."""
        new = {path: reason for path, reason in found.items() if path not in self.reasons}
        self.reasons.update(new)
        return new

    def allowed(self, size: int) -> int:
        """How many unreadable files a data set of ``size`` images may have."""
        return int(max(self.max_fraction * size, min(self.min_files, _LARGEST_SHARE * size)))

    def check(self, size: int, option: str | None = None) -> None:
        """Stops when there are too many.

        Args:
            size: of the data set, in images.
            option: what the user can raise, as it is written in a config or after ``--cfg-options``.

        Raises:
            UsageError: with the numbers, the first file, and ``option``.
        """
        if len(self.reasons) <= self.allowed(size):
            return
        path, reason = next(iter(self.reasons.items()))
        share = min(1.0, len(self.reasons) / size)
        # The next step of a thousandth, so that what is advised is enough for what has been found.
        enough = min(1.0, (int(1000 * share) + 1) / 1000)
        raise UsageError(
            f'{len(self.reasons)} of the {size} images cannot be read, which is more than {100 * self.max_fraction:g} '
            f'% and more than {min(self.min_files, int(_LARGEST_SHARE * size))} files, for instance {path} '
            f'({reason or "no reason given"}): check that the data set was copied completely, remove the broken files, '
            f'or allow more with {option or f"{self.owner}.max_fraction"}={enough:g}.'
        )

    def summary(self, size: int) -> str:
        """The last word on a data set of ``size`` images."""
        count = len(self.reasons)
        return f'{count} of {size} files could not be read and were replaced' if count else 'all could be read'
