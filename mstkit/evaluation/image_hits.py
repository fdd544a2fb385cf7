"""Which validation images an evaluation classifies correctly, and the file that keeps it."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from mstkit.errors import UsageError
from mstkit.evaluation.evaluated_network import EvaluatedNetwork
from mstkit.utils.files import write_atomically


class Judgment(NamedTuple):
    """The result of an evaluation, image by image.

    Attributes:
        metrics: as the evaluation returns them when it is called.
        metric: the name among them that is the mean of ``hits``, in percent.
        hits: (M,) bool, whether each val image is classified correctly, in file order.
    """

    metrics: dict[str, float]
    metric: str
    hits: Tensor


@runtime_checkable
class JudgesImages(Protocol):
    """An evaluation that can say which images it classifies correctly."""

    def judge(self, evaluated: EvaluatedNetwork) -> Judgment:
        """Runs the evaluation."""


class ImageHits(NamedTuple):
    """What a file of hits holds.

    Attributes:
        images: the val images, relative to their folder, in file order.
        hits: (M,) bool.
        metric: the name of the accuracy that is the mean of ``hits``.
    """

    images: tuple[str, ...]
    hits: np.ndarray
    metric: str

    @property
    def accuracy(self) -> float:
        """In percent."""
        return 100.0 * float(self.hits.mean())


def names_of_images(evaluated: EvaluatedNetwork) -> tuple[str, ...]:
    """The val images, relative to their folder, in file order."""
    folder = evaluated.folders['val']
    paths = (folder.get_data_info(index)['img_path'] for index in range(len(folder)))
    return tuple(Path(os.path.relpath(path, folder.folder)).as_posix() for path in paths)


def write_hits(path: str | os.PathLike[str], found: ImageHits) -> None:
    """Writes a file of hits, atomically: ``images`` (UTF-8, a line each), ``hits`` (one bit each), ``metric``."""
    lines = np.frombuffer('\n'.join(found.images).encode(), dtype=np.uint8)
    bits, count, metric = np.packbits(found.hits), np.array(len(found.hits)), np.array(found.metric)
    write_atomically(path, lambda file: np.savez_compressed(file, images=lines, hits=bits, count=count, metric=metric))


def read_hits(path: str | os.PathLike[str]) -> ImageHits:
    """Reads a file of :func:`write_hits`.

    Raises:
        UsageError: it is missing or damaged.
    """
    try:
        with np.load(path) as content:
            images = tuple(content['images'].tobytes().decode().split('\n'))
            hits = np.unpackbits(content['hits'], count=int(content['count'])).astype(bool)
            if len(images) != len(hits):
                raise ValueError(f'{len(images)} images and {len(hits)} hits')
            return ImageHits(images, hits, str(content['metric']))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(f'{path} is no file of hits ({error}): remove it, and measure again.') from error
