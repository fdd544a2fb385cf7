"""Base class of data sets of image files: pipeline, and replacement of unreadable files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from mmengine.dataset import BaseDataset
from torch.utils.data import Subset

from mstkit.datasets.dataset_interface import KnownFromConfig, Pipeline, parts_of
from mstkit.datasets.decoded_images import DecodedImages
from mstkit.datasets.image_reader import LoadRGB
from mstkit.datasets.image_replacement import ReplacesUnreadable
from mstkit.datasets.memory_budget import Memory, check_memory, say_read_from_files, store_for
from mstkit.datasets.multi_crop import MultiCrop
from mstkit.datasets.sampling import SampleKey
from mstkit.errors import UsageError
from mstkit.registry import TRANSFORMS

# Shorter lists of files are not serialized: mmengine then runs a garbage collection, which can take a second.
_PACKED_FROM = 10_000


class FileDataset(ReplacesUnreadable, KnownFromConfig, BaseDataset):
    """A data set of image files.

    A file that the pipeline cannot read is replaced by another one (:class:`ReplacesUnreadable`). ``sample_idx`` stays
    that of the requested sample; ``img_path`` and ``gt_label`` are those of the replacement.

    Images can be kept in memory once they are decoded (:mod:`mstkit.datasets.decoded_images`), which changes no pixel
    of what the pipeline gives. The memory is shared by the workers of all loaders of this process, and by its data sets
    of the same files. With ``LoadRGB(scaled=True)`` an image from which ``MultiCrop`` may read crops at a reduced size
    stays on file: the reduced pixels are not those of the whole image, which would take up to 64 times their memory.

    Args:
        data_root: folder of the files.
        pipeline: transforms or their configs; names are looked up in mstkit's registry, then in mmpretrain's.
        metainfo: ``classes`` fixes the class names and their order.
        test_mode: the data is used for evaluation: an unreadable file raises an error instead of being replaced.
        lazy_init: read the list of files at first use rather than now.
        serialize_data: as in mmengine, for lists of 10 000 files or more: saves memory in the workers.
        memory: whether images are kept in memory once decoded. ``'auto'``: by a training and its
            :class:`mstkit.engine.hooks.knn_hook.KNNHook`, if all of them fit into half of what is free, divided by the
            processes on this machine. A size, such as ``'2GiB'``: if they fit into it. ``True``: always. ``False``:
            never.

    Raises:
        UsageError: ``memory`` is none of these; it is True, and the images do not fit, or a transform other than
            ``LoadRGB`` reads them.
    """

    def __init__(
        self,
        data_root: str | os.PathLike[str] = '',
        pipeline: Sequence[Mapping[str, Any] | Callable] = (),
        metainfo: Mapping[str, Any] | None = None,
        test_mode: bool = False,
        lazy_init: bool = False,
        serialize_data: bool = True,
        memory: Memory = 'auto',
    ) -> None:
        self.memory = check_memory(f'{type(self).__name__}.memory', memory)
        self.decoded: DecodedImages | None = None
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
        if self.memory not in ('auto', False):
            self.keep_decoded()

    def keep_decoded(self, indices: Iterable[int] | None = None) -> None:
        """Keeps images in memory from now on, as ``memory`` says; called before the workers of a loader start.

        Args:
            indices: of the samples that will be read; None for all.
        """
        if self.memory is False or self.decoded is not None:
            return
        if not self._fully_initialized:
            self.full_init()
        steps = self.pipeline.transforms if isinstance(self.pipeline, Pipeline) else []
        name = type(self).__name__
        if not steps or not isinstance(steps[0], LoadRGB):
            if steps:
                say_read_from_files(name, self.memory, f'{type(steps[0]).__name__} does, and not LoadRGB')
            return
        paths = _Paths(self, range(len(self)) if indices is None else list(indices))
        crops = [step for step in steps if isinstance(step, MultiCrop)] if steps[0].scaled else []
        shrinks = (lambda h, w: any(crop.may_shrink(h, w) for crop in crops)) if crops else None
        self.decoded = store_for(name, paths, self.memory, shrinks)

    def _prepare_one(self, index: int, key: SampleKey, failed: dict[str, str]) -> Any:
        results = self.get_data_info(index)
        results['sample_idx'] = key
        if failed:
            results.update(replaced=list(failed), replaced_reasons=list(failed.values()))
        if self.decoded is not None:
            results['img'] = self.decoded.read(results['img_path'])  # LoadRGB reads the file itself where it is None
        return self.pipeline(results)

    def get_cat_ids(self, idx: int) -> list[int]:
        """The sample's class as a list, for mmengine's ``ClassBalancedDataset``."""
        info = self.get_data_info(idx)
        if 'gt_label' not in info:
            raise UsageError(f'{type(self).__name__} of {self.data_root!r} has no labels to balance classes by.')
        return [info['gt_label']]


class _Paths(Sequence[str]):
    """The paths of samples, looked up when they are asked for: of a data set of millions only some are."""

    def __init__(self, dataset: FileDataset, indices: Sequence[int]) -> None:
        self.dataset, self.indices = dataset, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: Any) -> Any:
        return self.dataset.get_data_info(self.indices[place])['img_path']


def keep_in_memory(dataset: Any) -> None:
    """Lets the data sets of image files in a data set keep their images in memory, if they are set to (``memory``)."""
    for part in parts_of(dataset):
        if isinstance(part, Subset) and isinstance(part.dataset, FileDataset):
            part.dataset.keep_decoded(part.indices)
        elif isinstance(part, FileDataset):
            part.keep_decoded()
