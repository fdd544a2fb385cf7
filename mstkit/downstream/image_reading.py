"""Handles unreadable images in data sets of mmdet and mmseg as in those of a pre-training."""

from __future__ import annotations

import os
from typing import Any

from mmengine.structures import BaseDataElement

from mstkit.datasets.dataset_interface import KnownFromConfig
from mstkit.datasets.image_reader import UnreadableImage, read_image
from mstkit.datasets.image_replacement import ReplacesUnreadable
from mstkit.datasets.sampling import SampleKey
from mstkit.downstream.label_checks import read_label_map
from mstkit.errors import UsageError

# First and last bytes of complete JPEG and PNG files. OpenCV reads truncated ones too and fills in the rest.
_WHOLE = ((b'\xff\xd8', b'\xff\xd9'), (b'\x89PNG', b'IEND\xaeB`\x82'))


class ReadsImages(ReplacesUnreadable, KnownFromConfig):
    """Mixin for data sets of mmdet and mmseg, whose pipelines read with OpenCV, which hardly reports errors.

    A truncated image counts as unreadable, although OpenCV would fill in the rest. A label map that cannot be read
    stops the run.
    """

    def _prepare_one(self, index: int, key: SampleKey, failed: dict[str, str]) -> Any:
        info = self.get_data_info(index)  # type: ignore[attr-defined]
        info['sample_idx'] = key  # by which transforms of mstkit seed what they draw; those of mmdet and mmseg do not
        path, label_map = info['img_path'], info.get('seg_map_path')
        wanted = (info['height'], info['width']) if 'height' in info and 'width' in info else None
        if not _is_complete(path):
            read_image(path)  # raises UnreadableImage with the reason, if the image really is damaged
        try:
            packed = self.pipeline(info)
        except (UsageError, UnreadableImage):
            raise
        except Exception as error:
            read_image(path)
            if label_map is not None:
                read_label_map(label_map)
            raise RuntimeError(f'{path} cannot be prepared: {type(error).__name__}: {error}') from error
        self._check_size(packed, path, wanted)
        return packed

    def _check_size(self, packed: Any, path: str, wanted: tuple[int, int] | None) -> None:
        """Refuses an image of another size than in its annotations; at the start, large data sets are only sampled."""
        sample = packed.get('data_samples') if isinstance(packed, dict) else None
        size = sample.get('ori_shape') if isinstance(sample, BaseDataElement) else None
        if wanted is not None and size is not None and tuple(size[:2]) != wanted:
            raise UsageError(
                f'{path} is {size[1]}x{size[0]} px as it is read, and {wanted[1]}x{wanted[0]} px in its annotations: '
                'boxes and masks would lie elsewhere. Give the image that was annotated, or annotate this one.'
            )


def _is_complete(path: str) -> bool:
    """Whether a file of a format in :data:`_WHOLE` has the right last bytes; True for other formats."""
    try:
        with open(path, 'rb') as file:
            begin = file.read(4)
            file.seek(0, os.SEEK_END)
            file.seek(max(file.tell() - 8, 0))
            end = file.read()
    except OSError:
        return False
    return all(end.endswith(last) for first, last in _WHOLE if begin.startswith(first))
