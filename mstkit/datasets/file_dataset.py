"""Base class of data sets of image files: pipeline, and replacement of unreadable files."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmengine.dataset import BaseDataset

from mstkit.datasets.dataset_interface import KnownFromConfig
from mstkit.datasets.image_replacement import ReplacesUnreadable
from mstkit.datasets.sampling import SampleKey
from mstkit.errors import UsageError
from mstkit.registry import TRANSFORMS

# Shorter lists of files are not serialized: mmengine then runs a garbage collection, which can take a second.
_PACKED_FROM = 10_000


class FileDataset(ReplacesUnreadable, KnownFromConfig, BaseDataset):
    """A data set of image files.

    A file that the pipeline cannot read is replaced by another one (:class:`ReplacesUnreadable`). ``sample_idx`` stays
    that of the requested sample; ``img_path`` and ``gt_label`` are those of the replacement.

    Args:
        data_root: folder of the files.
        pipeline: transforms or their configs; names are looked up in mstkit's registry, then in mmpretrain's.
        metainfo: ``classes`` fixes the class names and their order.
        test_mode: the data is used for evaluation: an unreadable file raises an error instead of being replaced.
        lazy_init: read the list of files at first use rather than now.
        serialize_data: as in mmengine, for lists of 10 000 files or more: saves memory in the workers.
    """

    def __init__(
        self,
        data_root: str | os.PathLike[str] = '',
        pipeline: Sequence[Mapping[str, Any] | Callable] = (),
        metainfo: Mapping[str, Any] | None = None,
        test_mode: bool = False,
        lazy_init: bool = False,
        serialize_data: bool = True,
    ) -> None:
        super().__init__(
            data_root=os.fspath(data_root),
            data_prefix=dict(img_path=''),
            # Built here, so that names are found without mmengine's default scope being set.
            pipeline=[TRANSFORMS.build(step) if isinstance(step, Mapping) else step for step in pipeline],
            metainfo=metainfo,
            test_mode=test_mode,
            lazy_init=lazy_init,
            serialize_data=serialize_data,
        )

    def full_init(self) -> None:
        """Lists the files; see :class:`mmengine.dataset.BaseDataset`."""
        if self._fully_initialized:
            return
        pack: bool = self.serialize_data
        self.serialize_data: bool = False
        super().full_init()
        if pack and len(self.data_list) >= _PACKED_FROM:
            self.data_bytes, self.data_address = self._serialize_data()
            self.serialize_data = True

    def _prepare_one(self, index: int, key: SampleKey, failed: dict[str, str]) -> Any:
        results = self.get_data_info(index)
        results['sample_idx'] = key
        if failed:
            results.update(replaced=list(failed), replaced_reasons=list(failed.values()))
        return self.pipeline(results)

    def get_cat_ids(self, idx: int) -> list[int]:
        """The sample's class as a list, for mmengine's ``ClassBalancedDataset``."""
        info = self.get_data_info(idx)
        if 'gt_label' not in info:
            raise UsageError(f'{type(self).__name__} of {self.data_root!r} has no labels to balance classes by.')
        return [info['gt_label']]
