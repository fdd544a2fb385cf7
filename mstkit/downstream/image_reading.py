"""How the data sets of mmdet and mmseg meet an image that cannot be read: as those of a pre-training do."""

from __future__ import annotations

import os
from typing import Any

from mstkit.datasets.image_reader import UnreadableImage, read_image
from mstkit.datasets.image_replacement import ReplacesUnreadable
from mstkit.datasets.sampling import SampleKey
from mstkit.downstream.label_checks import read_label_map
from mstkit.errors import UsageError

# How whole files begin and end, of the formats of which OpenCV takes a part for the whole and fills up the rest.
_WHOLE = ((b'\xff\xd8', b'\xff\xd9'), (b'\x89PNG', b'IEND\xaeB`\x82'))


class ReadsImages(ReplacesUnreadable):
    """Mixed into data sets of mmdet's and mmseg's, whose pipelines read with OpenCV and say little about what is wrong.

    An image that ends in the middle counts as unreadable, though OpenCV would make it up. A label map that cannot be
    read stops the run: its image would be trained on with nothing.
    """

    def _prepare_one(self, index: int, key: SampleKey, failed: dict[str, str]) -> Any:
        info = self.get_data_info(index)  # type: ignore[attr-defined]
        path, label_map = info['img_path'], info.get('seg_map_path')
        wanted = (info['height'], info['width']) if 'height' in info and 'width' in info else None
        if not _ends_well(path):
            read_image(path)  # has the last word, and the reason
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
        """Refuses an image of another size than its annotations say; of large data sets not all are seen before."""
        sample = packed.get('data_samples') if isinstance(packed, dict) else None
        size = getattr(sample, 'ori_shape', None)
        if wanted is not None and size is not None and tuple(size[:2]) != wanted:
            raise UsageError(
                f'{path} is {size[1]}x{size[0]} px as it is read, and {wanted[1]}x{wanted[0]} px in its annotations: '
                'boxes and masks would lie elsewhere. Give the image that was annotated, or annotate this one.'
            )


def _ends_well(path: str) -> bool:
    """Whether a file ends as one of its kind does. Reads a few bytes."""
    try:
        with open(path, 'rb') as file:
            begin = file.read(4)
            file.seek(0, os.SEEK_END)
            file.seek(max(file.tell() - 8, 0))
            end = file.read()
    except OSError:
        return False
    return all(end.endswith(last) for first, last in _WHOLE if begin.startswith(first))
