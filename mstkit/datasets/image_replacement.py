"""Replaces unreadable images by others in training, and raises an error for them in evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.structures import BaseDataElement

from mstkit.datasets.image_reader import UnreadableImage
from mstkit.datasets.sampling import SampleKey
from mstkit.errors import UsageError

# If half of the files are broken, this many draws in a row all fail with probability 2**-32.
_MAX_DRAWS = 32


class ReplacesUnreadable:
    """Mixin for mmengine's data sets, listed before them.

    An unreadable file is replaced by another one, drawn with the sample's key and so reproducible. In the packed
    sample, ``replaced`` lists the paths and ``replaced_reasons`` the reasons;
    :class:`mstkit.engine.hooks.unreadable_image_hook.UnreadableImageHook` counts them. With ``test_mode`` (evaluation)
    the first unreadable file raises an error.
    """

    test_mode: bool
    pipeline: Any

    def prepare_data(self, idx: int) -> Any:
        """The sample after the pipeline; unreadable files are replaced.

        Raises:
            UsageError: no draw gives a readable file; with ``test_mode``, the first file is unreadable.
        """
        size = len(self)  # type: ignore[arg-type]
        key = SampleKey.of(idx if idx >= 0 else size + idx)
        failed: dict[str, str] = {}
        for candidate in self._candidates(key):
            try:
                packed = self._prepare_one(int(candidate), key, failed)
            except UnreadableImage as error:
                if self.test_mode:
                    refuse_unmeasured({error.path: error.reason})
                failed[error.path] = error.reason
            else:
                return _noted(packed, failed)
        path, reason = next(iter(failed.items()))
        raise UsageError(
            f'{len(failed)} different images in a row cannot be read, the first is {path} ({reason}): '
            'check that the data set was copied completely and that these are images.'
        )

    def _prepare_one(self, index: int, key: SampleKey, failed: dict[str, str]) -> Any:
        """One sample after the pipeline.

        Args:
            index: index of the sample.
            key: key of the requested sample, which this one may replace.
            failed: the unreadable files that it replaces, each with the reason.

        Raises:
            UnreadableImage: the image of this sample cannot be read.
        """
        raise NotImplementedError

    def _candidates(self, key: SampleKey) -> Iterator[int]:
        """The sample itself, then random ones (not neighbors, because broken files are often adjacent)."""
        yield int(key)
        generator = key.generator('replacement')
        for _ in range(_MAX_DRAWS):
            yield int(generator.integers(len(self)))  # type: ignore[arg-type]


def refuse_unmeasured(unreadable: dict[str, str]) -> None:
    """Raises the error for unreadable files in evaluation data.

    Args:
        unreadable: paths, each with the reason.

    Raises:
        UsageError: always.
    """
    (path, reason), *others = unreadable.items()
    more = f' (and {len(others)} more)' if others else ''
    raise UsageError(
        f'{path}{more}, of the data to validate or test on, cannot be read ({reason}): without it, or with another '
        'image in its place, results would not be comparable. Copy it again, or remove it from the data.'
    )


def _noted(packed: Any, failed: dict[str, str]) -> Any:
    """Adds ``replaced`` to ``data_samples`` of the packed sample, which other toolboxes' packing would omit."""
    if failed and isinstance(packed, dict) and isinstance(packed.get('data_samples'), BaseDataElement):
        packed['data_samples'].set_metainfo(dict(replaced=list(failed), replaced_reasons=list(failed.values())))
    return packed
