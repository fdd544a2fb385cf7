"""What a data set does about an image that cannot be read: another one in a training, and a refusal in a test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mstkit.datasets.image_reader import UnreadableImage
from mstkit.datasets.sampling import SampleKey
from mstkit.errors import UsageError

# Even where half of the files are broken, this many draws in a row fail once in four thousand million samples.
_MAX_DRAWS = 32


class ReplacesUnreadable:
    """Mixed into data sets of mmengine's, before them.

    A file that cannot be read is replaced by another one, drawn by the sample's key, hence the same one in every
    repetition. The packed sample says so: ``replaced`` lists the paths, ``replaced_reasons`` why. Count them with
    :class:`mstkit.engine.hooks.unreadable_image_hook.UnreadableImageHook`. With ``test_mode`` the data set is there to
    be measured on, and stops at the first such file.
    """

    test_mode: bool
    pipeline: Any

    def prepare_data(self, idx: int) -> Any:
        """The sample after the pipeline; unreadable files replaced.

        Raises:
            UsageError: a great many files in a row cannot be read; with ``test_mode``, one.
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
            index: of the sample.
            key: that of the sample which was asked for.
            failed: the files that could not be read instead of which this one is, each with the reason.

        Raises:
            UnreadableImage: its image cannot be read.
        """
        raise NotImplementedError

    def _candidates(self, key: SampleKey) -> Iterator[int]:
        """The sample itself, then others; drawn far apart, for broken files tend to lie next to each other."""
        yield int(key)
        generator = key.generator('replacement')
        for _ in range(_MAX_DRAWS):
            yield int(generator.integers(len(self)))  # type: ignore[arg-type]


def refuse_unmeasured(unreadable: dict[str, str]) -> None:
    """Refuses to measure on fewer images than a data set has.

    Args:
        unreadable: paths, each with the reason.

    Raises:
        UsageError: always.
    """
    (path, reason), *others = unreadable.items()
    more = f' (and {len(others)} more)' if others else ''
    raise UsageError(
        f'{path}{more}, of the data to validate or test on, cannot be read ({reason}): numbers measured without it, or '
        'with another image in its place, would not be those of this data. Copy it again, or remove it from the data.'
    )


def _noted(packed: Any, failed: dict[str, str]) -> Any:
    """The packed sample, whose ``data_samples`` say what was replaced: no toolbox's own packing takes that along."""
    if failed and isinstance(packed, dict) and hasattr(packed.get('data_samples'), 'set_metainfo'):
        packed['data_samples'].set_metainfo(dict(replaced=list(failed), replaced_reasons=list(failed.values())))
    return packed
