"""What data sets of image files share: pipelines, and the replacement of files that cannot be read."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmengine.dataset import BaseDataset

from mstkit.datasets.image_replacement import ReplacesUnreadable
from mstkit.datasets.sampling import SampleKey
from mstkit.errors import UsageError
from mstkit.registry import TRANSFORMS

# Shorter lists of files stay as they are. Packing one keeps it out of the workers' memory, for which mmengine collects
# the garbage of the whole process: a second where much is loaded.
_PACKED_FROM = 10_000


class FileDataset(ReplacesUnreadable, BaseDataset):
    """A data set of image files.

    A file that the pipeline cannot read is replaced by another one (:class:`ReplacesUnreadable`). ``sample_idx`` stays
    that of the sample asked for; ``img_path`` and ``gt_label`` are those of the file that is seen.

    Args:
        data_root: where the files are.
        pipeline: transforms or their configs; names are looked up in mstkit's registry, then in mmpretrain's.
        metainfo: ``classes`` fixes the class names and their order.
        test_mode: the data is measured on: a file that cannot be read is refused and not replaced.
        lazy_init: read the list of files at first use rather than now.
        serialize_data: as in mmengine; keeps long lists, of ten thousand files or more, out of the workers' memory.
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
        """The sample's class in a list, as mmengine's ``ClassBalancedDataset`` wants it."""
        info = self.get_data_info(idx)
        if 'gt_label' not in info:
            raise UsageError(f'{type(self).__name__} of {self.data_root!r} has no labels to balance classes by.')
        return [info['gt_label']]
