"""DAVIS-2017: its file layout, its annotations, and its official metrics."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from mstkit.errors import UsageError, nearest
from mstkit.evaluation.benchmarks.region_boundary import Statistics, boundary_accuracy, over_frames, region_similarity
from mstkit.utils.class_palette import palette
from mstkit.utils.files import write_atomically

_VOID = 255  # the label of void pixels, which count as background, as in the challenge


class Video(NamedTuple):
    """A sequence of the data set.

    Attributes:
        name: of its folder.
        frames: its images, in order.
        annotations: a label map for each frame; only that of the first frame if the others are not published.
    """

    name: str
    frames: tuple[Path, ...]
    annotations: tuple[Path, ...]

    @property
    def scored(self) -> bool:
        """Whether all frames have annotations, so that predictions can be scored."""
        return len(self.annotations) == len(self.frames)


class Annotation(NamedTuple):
    """A label map.

    Attributes:
        labels: (H, W) uint8; 0 is the background, objects count from 1.
        colors: the palette, 256 * 3 numbers from 0 to 255.
    """

    labels: np.ndarray
    colors: list[int]


class ObjectScores(NamedTuple):
    """J and F of one object."""

    region: Statistics
    boundary: Statistics

    @property
    def mean(self) -> float:
        """J&F."""
        return (self.region.mean + self.boundary.mean) / 2


def find_videos(root: str | os.PathLike[str], split: str = 'val', names: Sequence[str] = ()) -> list[Video]:
    """Lists the sequences of a split, and checks their files.

    ``ROOT/ImageSets/2017/SPLIT.txt`` names them; ``ROOT/JPEGImages/480p/NAME/*.jpg`` are the frames and
    ``ROOT/Annotations/480p/NAME/*.png`` the label maps. The first frame of each has to have the size of its label map.

    Args:
        root: the folder into which DAVIS was unpacked.
        split: 'val', 'train', 'test-dev' or another list.
        names: only these sequences; empty for all of the split.

    Raises:
        UsageError: names the file that is missing or wrong.
    """
    root = Path(root)
    sets, images, maps = root / 'ImageSets' / '2017', root / 'JPEGImages' / '480p', root / 'Annotations' / '480p'
    for folder in (sets, images, maps):
        if not folder.is_dir():
            raise UsageError(f'there is no folder {folder}: give the folder into which DAVIS 2017 (480p) was unpacked.')
    listed = sets / f'{split}.txt'
    if not listed.is_file():
        known = [path.stem for path in sets.glob('*.txt')]
        raise UsageError(f'there is no {listed}: the splits here are {", ".join(sorted(known)) or "none"}.')
    lines = (line.strip() for line in listed.read_text(encoding='utf-8-sig').splitlines())
    every = [line for line in lines if line]
    if not every:
        raise UsageError(f'{listed} names no sequences: unpack it again.')
    for name in names:
        if name not in every:
            raise UsageError(f'the split {split} has no sequence {name!r}.{nearest(name, every)}')
    return [_video(name, images / name, maps / name) for name in names or every]


def read_annotation(path: str | os.PathLike[str]) -> Annotation:
    """Reads a label map; raises UsageError if the file is not one."""
    try:
        with Image.open(path) as image:
            labels, mode, colors = np.array(image), image.mode, image.getpalette()
    except Exception as error:  # damaged files surface as any kind of exception from Pillow's decoders
        reason = str(error) or type(error).__name__
        raise UsageError(f'the annotation {path} cannot be read ({reason}): unpack it again.') from error
    if mode not in ('P', 'L'):
        raise UsageError(
            f'the annotation {path} holds colors ({mode}), not numbers of objects: give the PNG files with a palette '
            'of DAVIS 2017.'
        )
    labels[labels == _VOID] = 0
    filled = (colors or []) + [part for color in [[0, 0, 0], *palette(255)] for part in color][len(colors or []) :]
    return Annotation(labels, filled)


def write_labels(path: str | os.PathLike[str], labels: np.ndarray, colors: Sequence[int]) -> None:
    """Writes a label map, (H, W) uint8, as a PNG with a palette, atomically."""
    image = Image.fromarray(labels, 'L')
    image.putpalette(colors)
    content = io.BytesIO()
    image.save(content, 'PNG')
    write_atomically(path, content.getvalue())


def score_video(predictions: Sequence[np.ndarray], video: Video) -> dict[int, ObjectScores]:
    """Compares predictions with the annotations; the first frame (which is given) and the last do not count.

    Args:
        predictions: label maps of all frames, (H, W); the first one determines the objects.
        video: with an annotation for each frame.

    Returns:
        J and F by object number.

    Raises:
        UsageError: an annotation cannot be read, or has another size than the first one.
    """
    objects = np.unique(predictions[0][predictions[0] > 0]).tolist()
    region: dict[int, list[float]] = {number: [] for number in objects}
    edge: dict[int, list[float]] = {number: [] for number in objects}
    for predicted, path in list(zip(predictions, video.annotations, strict=True))[1:-1]:
        truth = read_annotation(path).labels
        if truth.shape != predicted.shape:
            raise UsageError(
                f'the annotation {path} is {_size(truth.shape)} px and the first frame of {video.name} '
                f'{_size(predicted.shape)}: unpack the sequence again.'
            )
        for number in objects:
            region[number].append(region_similarity(predicted == number, truth == number))
            edge[number].append(boundary_accuracy(predicted == number, truth == number))
    return {number: ObjectScores(over_frames(region[number]), over_frames(edge[number])) for number in objects}


def overall(scores: Mapping[str, Mapping[int, ObjectScores]]) -> dict[str, float]:
    """The metrics of the challenge: means over all objects of all sequences, in percent.

    Args:
        scores: by sequence and object number.

    Returns:
        ``J&F``, then ``J_mean``, ``J_recall``, ``J_decay`` and the same of F.
    """
    objects = [one for of_video in scores.values() for one in of_video.values()]
    result = {'J&F': 100 * float(np.mean([one.mean for one in objects]))}
    for letter, measure in (('J', 'region'), ('F', 'boundary')):
        for name in Statistics._fields:
            values = [getattr(getattr(one, measure), name) for one in objects]
            result[f'{letter}_{name}'] = 100 * float(np.mean(values))
    return result


def _video(name: str, images: Path, maps: Path) -> Video:
    frames, annotations = (
        tuple(sorted(folder.glob(pattern))) for folder, pattern in ((images, '*.jpg'), (maps, '*.png'))
    )
    if len(frames) < 2:
        raise UsageError(f'{images} holds {len(frames)} frames *.jpg, a video needs two: unpack the sequence again.')
    stems = {path.stem for path in annotations}
    missing = [path.stem for path in frames if path.stem not in stems]
    if frames[0].stem in missing:
        raise UsageError(f'{maps} has no {frames[0].stem}.png, the annotation to begin with: unpack Annotations again.')
    only_first = len(missing) == len(frames) - 1
    if missing and not only_first:
        raise UsageError(
            f'{len(missing)} of {len(frames)} frames of {name} have no annotation in {maps}, the first is '
            f'{missing[0]}.png: unpack Annotations again.'
        )
    if len(frames) < 3 and not only_first:
        raise UsageError(
            f'{name} has {len(frames)} frames, and of those the first and the last do not count: add more.'
        )
    kept = tuple(maps / f'{path.stem}.png' for path in (frames[:1] if only_first else frames))
    _check_sizes(frames[0], kept[0])
    return Video(name, frames, kept)


def _check_sizes(frame: Path, annotation: Path) -> None:
    try:
        with Image.open(frame) as image:
            size = image.size
    except OSError as error:
        raise UsageError(f'the frame {frame} cannot be read ({error}): unpack it again.') from error
    first = read_annotation(annotation).labels
    if first.shape != size[::-1]:
        raise UsageError(
            f'the annotation {annotation} is {_size(first.shape)} px and its frame {size[0]}x{size[1]}: both have to '
            'be of 480p.'
        )
    if not first.any():
        raise UsageError(f'the annotation {annotation} shows no object to follow: give the one of DAVIS 2017.')


def _size(shape: Sequence[int]) -> str:
    return f'{shape[1]}x{shape[0]}'
