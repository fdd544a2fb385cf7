"""Checks that images have the sizes of their annotations. Reads headers of files and decodes no pixels."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from mmcv.transforms import LoadImageFromFile
from mmengine.dist import is_main_process
from mmengine.logging import print_log

from mstkit.datasets.image_head import Head, read_head
from mstkit.datasets.image_reader import UnreadableImage
from mstkit.datasets.image_replacement import refuse_unmeasured
from mstkit.errors import UsageError
from mstkit.utils.few_of_many import first_few
from mstkit.utils.progress_bar import track

MOST = 10_000  # headers read per data set; of more images, this many evenly spaced ones
AS_STORED = "LoadImageFromFile(color_type='color_ignore_orientation')"
_READERS = 8  # headers read at the same time, which hides the latency of network disks


def turns_upright(pipeline: Any) -> bool:
    """Whether a pipeline applies EXIF's orientation when it reads images, which is the default of mmcv's reader."""
    kinds = [str(step.color_type) for step in pipeline.transforms if isinstance(step, LoadImageFromFile)]
    return not any(kind.endswith('ignore_orientation') or kind == 'unchanged' for kind in kinds)


@dataclass
class Sizes:
    """The result of :func:`compare_sizes`.

    Attributes:
        checked: number of images whose headers were read.
        total: number of images of the data set.
        unreadable: paths of unreadable images with the reasons.
        other: (path, size of the image, wanted size) of images of another size; (width, height) in px.
        turned: the same for images that have the wanted size only before EXIF's orientation is applied.
        hidden: paths of images that EXIF's orientation rotates or mirrors without changing their size.
    """

    checked: int
    total: int
    unreadable: dict[str, str] = field(default_factory=dict)
    other: list[tuple[str, tuple[int, int], tuple[int, int]]] = field(default_factory=list)
    turned: list[tuple[str, tuple[int, int], tuple[int, int]]] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)

    @property
    def among(self) -> str:
        """``of the N images``, for messages."""
        some = f' that were checked ({self.total} in all)' if self.checked < self.total else ''
        return f'of the {self.checked} images{some}'

    def check(self, source: str, remedy: str, measured: bool, of_mmcv: bool = True) -> None:
        """Refuses images of another size, and warns of unreadable images and of orientations that may matter.

        Args:
            source: the annotation file or the folder of label maps, for messages.
            remedy: advice for images of another size, for messages.
            measured: the images are those of a validation or a test, which needs all of them.
            of_mmcv: the images are read by mmcv's pipelines, which can leave out EXIF's orientation.

        Raises:
            UsageError: sizes differ, or an image of a validation cannot be read.
        """
        if self.unreadable and measured:
            refuse_unmeasured(self.unreadable)
        for found, said, help_ in (
            (self.other, 'are of another size than', remedy),
            (
                self.turned,
                'are rotated by the orientation in their EXIF data but were annotated as they are stored, according to',
                'Annotate the upright images, or store the images upright and without the orientation'
                + (f', or have them read as they are stored: {AS_STORED} in every pipeline' if of_mmcv else ''),
            ),
        ):
            if found:
                path, (width, height), (wanted_width, wanted_height) = found[0]
                raise UsageError(
                    f'{len(found)} {self.among} {said} {source}, the first is {path}: it is read as {width}x{height} '
                    f'px, and annotated as {wanted_width}x{wanted_height} px. {help_}.'
                )
        if self.hidden:
            print_log(
                f'{len(self.hidden)} {self.among} are turned or mirrored by the orientation in their EXIF data, which '
                f'their size does not show: {first_few(self.hidden)}. They are read upright, so the annotations in '
                f'{source} have to be those of the upright images'
                + (f'; {AS_STORED} reads them as they are stored.' if of_mmcv else '.'),
                logger='current',
                level=logging.WARNING,
            )
        if self.unreadable:
            path, reason = next(iter(self.unreadable.items()))
            print_log(
                f'{len(self.unreadable)} {self.among} cannot be read and are replaced by others while training, the '
                f'first is {path} ({reason}).',
                logger='current',
                level=logging.WARNING,
            )


def compare_sizes(
    images: Sequence[str], wanted: Sequence[tuple[int, int] | str], turned: bool = True, most: int | None = None
) -> Sizes:
    """Compares images with the sizes that their annotations were made for.

    Args:
        images: their paths.
        wanted: for each image (width, height) in px, or the path of a label map of the same size.
        turned: whether EXIF's orientation is applied when the images are read.
        most: maximum number of images to check, evenly spaced; by default :data:`MOST`.
    """
    count = min(MOST if most is None else most, len(images))
    chosen = [index * len(images) // count for index in range(count)]
    sizes = Sizes(count, len(images))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # Pillow warns of odd metadata, which do not matter here
        for index, head, size in track(_read(images, wanted, chosen), count, 'images compared', is_main_process()):
            if isinstance(head, UnreadableImage):
                sizes.unreadable[head.path] = head.reason
            elif head.size(turned) != size:
                as_stored = turned and head.orientation > 4 and head.size(False) == size
                (sizes.turned if as_stored else sizes.other).append((images[index], head.size(turned), size))
            elif turned and (head.orientation in (2, 3, 4) or (head.orientation > 4 and head.width == head.height)):
                sizes.hidden.append(images[index])
    return sizes


def _read(
    images: Sequence[str], wanted: Sequence[tuple[int, int] | str], chosen: Sequence[int]
) -> Iterator[tuple[int, Head | UnreadableImage, tuple[int, int]]]:
    def one(index: int) -> tuple[int, Head | UnreadableImage, tuple[int, int]]:
        other = wanted[index]
        if isinstance(other, str):
            try:
                size = read_head(other).size(False)
            except UnreadableImage as error:
                raise UsageError(f'the label map {other} cannot be read ({error.reason}): copy it again.') from error
        else:
            size = other
        try:
            return index, read_head(images[index]), size
        except UnreadableImage as error:
            return index, error, (0, 0)

    with ThreadPoolExecutor(_READERS) as pool:
        yield from pool.map(one, chosen)
