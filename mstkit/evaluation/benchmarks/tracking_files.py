"""Videos with a box to follow, in the layouts of OTB and GOT-10k, and the files of boxes that their toolkits read.

OTB: ``ROOT/NAME/img/*`` are the frames and ``ROOT/NAME/groundtruth_rect.txt`` their boxes; a video of several targets
has ``groundtruth_rect.1.txt``, ``groundtruth_rect.2.txt``, each of which is followed by itself. Pixels count from 1.

GOT-10k: ``ROOT/SPLIT/NAME/*`` are the frames, ``groundtruth.txt`` their boxes, ``absence.label`` and ``cover.label``,
if they are there, say in which frames nothing is seen of the target; ``ROOT/SPLIT/list.txt`` names the videos. The test
split has the box of the first frame only. Pixels count from 0.

A box is a line: left, top, width and height, with commas, tabs or blanks between them. One that holds NaN, or is
without width or height, is of a frame without the target, which is not scored.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from mmengine.logging import print_log
from PIL import Image

from mstkit.datasets.folder_scan import listing, scan_folder
from mstkit.errors import UsageError, nearest
from mstkit.utils.files import write_atomically
from mstkit.utils.home_folder import expanded

OTB, GOT10K = 'OTB', 'GOT-10k'
SPLITS = ('train', 'val', 'test')
_TRUTH = re.compile(r'groundtruth_rect(?:\.(\d+))?\.txt')
# The only videos of OTB with more frames than boxes, and the number of the frame that the first box belongs to.
_FIRST_FRAMES = {'david': 300, 'diving': 1, 'football1': 1, 'freeman3': 1, 'freeman4': 1}


class TrackedVideo(NamedTuple):
    """A video and the boxes of its target.

    Attributes:
        name: of its folder; of several targets with the number of this one.
        layout: ``OTB`` or ``GOT10K``.
        frames: its images, in order.
        size: (width, height) of the first frame in pixels.
        boxes: (T, 4) float64: left, top, width and height in pixels from 0 on; of the first frame alone, (1, 4), if the
            others are not published.
        visible: (T,) bool, or (1,): whether there is something of the target, so that the frame is scored.
    """

    name: str
    layout: str
    frames: tuple[Path, ...]
    size: tuple[int, int]
    boxes: np.ndarray
    visible: np.ndarray

    @property
    def scored(self) -> bool:
        """Whether there is a box for each frame."""
        return len(self.boxes) == len(self.frames)


def find_tracked(
    root: str | os.PathLike[str], split: str | None = None, names: Sequence[str] = ()
) -> list[TrackedVideo]:
    """The videos of a folder in one of the two layouts, which is recognized by what the folder holds.

    Args:
        root: the folder.
        split: of GOT-10k; None for ``val``.
        names: only these videos; empty for all.

    Raises:
        UsageError: the folder has neither layout, or a file of it is missing or wrong.
    """
    root = expanded(root)
    if not root.is_dir():
        raise UsageError(f'there is no folder {root}: give one of videos, in the layout of {OTB} or {GOT10K}.')
    folders = [Path(entry.path) for entry in listing(str(root)) if Path(entry.path).is_dir()]
    otb = [folder for folder in folders if (folder / 'img').is_dir()]
    splits = [folder.name for folder in folders if folder.name in SPLITS]
    if otb and not splits:
        if split is not None:
            raise UsageError(f'{root} has the layout of {OTB}, without splits: give none instead of {split!r}.')
        videos = [video for folder in otb for video in _of_otb(folder)]
    elif splits and not otb:
        split = 'val' if split is None else split
        if split not in splits:
            raise UsageError(f'{root} has no split {split!r}: the folders here are {", ".join(splits)}.')
        videos = [_of_got10k(root / split / name) for name in _listed(root / split)]
    else:
        what = 'both that of' if otb else 'neither that of'
        raise UsageError(
            f'{root} has {what} {OTB} (NAME/img, NAME/groundtruth_rect.txt) and that of {GOT10K} '
            f'(val/NAME/00000001.jpg, val/NAME/groundtruth.txt): give a folder of one layout.'
        )
    known = {video.name: video for video in videos}
    for name in names:
        if name not in known:
            raise UsageError(f'{root} has no video {name!r}.{nearest(name, list(known))}')
    return [known[name] for name in names] if names else videos


def _of_otb(folder: Path) -> list[TrackedVideo]:
    frames = _frames(folder / 'img')
    truths = {found[1]: folder / found[0] for name in sorted(os.listdir(folder)) if (found := _TRUTH.fullmatch(name))}
    empty = [number for number, path in truths.items() if not path.read_bytes().strip()]
    if len(empty) == len(truths):
        raise UsageError(f'{folder} has no boxes in groundtruth_rect.txt: unpack it again.')
    for number in empty:
        print_log(f'{truths.pop(number)} is empty and left out', logger='current')
    if len(truths) > 1:
        print_log(f'{folder.name} has {len(truths)} targets, each of which is followed by itself', logger='current')
    videos = []
    for number, path in truths.items():
        boxes = read_boxes(path)
        own, begin = frames, _FIRST_FRAMES.get(folder.name.lower())
        if begin is not None and len(frames) > len(boxes):
            own = frames[begin - 1 : begin - 1 + len(boxes)]
        _check_counts(path, len(boxes), folder / 'img', own)
        boxes[:, :2] -= 1
        name = folder.name if number is None else f'{folder.name}.{number}'
        videos.append(_checked(name, OTB, own, boxes, np.ones(len(boxes), bool), path))
    return videos


def _listed(folder: Path) -> list[str]:
    """The names of a split of GOT-10k: those of its list, or without one those of its folders."""
    path = folder / 'list.txt'
    if not path.exists():
        names = [entry.name for entry in listing(str(folder)) if entry.is_dir()]
    else:
        names = [line.strip() for line in _text(path).splitlines() if line.strip()]
    if not names:
        raise UsageError(f'{path if path.exists() else folder} names no videos: unpack it again.')
    missing = [name for name in names if not (folder / name).is_dir()]
    if missing:
        raise UsageError(
            f'{len(missing)} of {len(names)} videos that {path} names are not there, the first: {missing[0]}; unpack '
            'them, or take them out of the list.'
        )
    return names


def _of_got10k(folder: Path) -> TrackedVideo:
    frames, path = _frames(folder), folder / 'groundtruth.txt'
    boxes = read_boxes(path)
    if len(boxes) > 1:
        _check_counts(path, len(boxes), folder, frames)
    visible = np.ones(len(boxes), bool)
    for name, seen in (('absence', lambda value: value == 0), ('cover', lambda value: value > 0)):
        label = folder / f'{name}.label'
        if label.exists():
            values = _numbers(label, 1)[:, 0]
            _check_counts(label, len(values), folder, frames)
            visible &= seen(values[: len(boxes)])
    return _checked(folder.name, GOT10K, frames, boxes, visible, path)


def _frames(folder: Path) -> list[Path]:
    found = scan_folder(str(folder))
    if len(found.images) < 2:
        raise UsageError(
            f'{folder} holds {len(found.images)} images{found.ignored_in_words()}; a video needs two: unpack it again.'
        )
    return [folder / path for path in found.images]


def _check_counts(path: Path, lines: int, folder: Path, frames: list[Path]) -> None:
    if lines != len(frames):
        raise UsageError(f'{path} has {lines} lines and {folder} {len(frames)} frames: unpack both again.')


def _checked(
    name: str, layout: str, frames: list[Path], boxes: np.ndarray, visible: np.ndarray, path: Path
) -> TrackedVideo:
    """A video whose first box lies in its first frame; frames without a box are not visible."""
    with np.errstate(invalid='ignore'):
        visible = visible & np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1)
    try:
        with Image.open(frames[0]) as image:
            size = image.size
    except (OSError, Image.DecompressionBombError) as error:
        raise UsageError(f'the frame {frames[0]} cannot be read ({error}): unpack it again.') from error
    left, top, width, height = boxes[0].tolist()
    inside = left < size[0] and top < size[1] and left + width > 0 and top + height > 0
    if not (math.isfinite(left + top + width + height) and width > 0 and height > 0 and inside):
        raise UsageError(
            f'the first box of {path} is {_words(boxes[0])}, which is nothing in a frame of {size[0]}x{size[1]} px: '
            'there is nothing to follow.'
        )
    if len(boxes) == len(frames) and not visible[1:].any():
        raise UsageError(f'the target of {path} is in no frame after the first: leave {name} out.')
    return TrackedVideo(name, layout, tuple(frames), size, boxes, visible)


def read_boxes(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads a file of boxes, (T, 4) float64 as they stand there; raises UsageError with the line that is wrong."""
    return _numbers(Path(path), 4)


def write_boxes(path: str | os.PathLike[str], boxes: np.ndarray, layout: str) -> None:
    """Writes (T, 4) boxes in pixels from 0 on, as the toolkit of a layout reads them."""
    shift = np.array([1.0, 1.0, 0.0, 0.0]) if layout == OTB else 0.0
    write_atomically(path, ''.join(f'{_words(box)}\n' for box in boxes + shift).encode())


def _numbers(path: Path, count: int) -> np.ndarray:
    lines = _text(path).rstrip().splitlines()
    if not lines:
        raise UsageError(f'{path} is empty: unpack it again.')
    rows = []
    for number, line in enumerate(lines, start=1):
        words = [word for word in re.split(r'[,;\s]+', line.strip()) if word]
        try:
            row = [float(word) for word in words]
        except ValueError:
            row = []
        if len(row) != count:
            what = 'the four numbers of a box' if count == 4 else 'a number'
            raise UsageError(f'line {number} of {path} is {line.strip()[:60]!r}: it should be {what}.')
        rows.append(row)
    return np.array(rows, np.float64)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding='utf-8-sig')
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else 'it is no text'
        raise UsageError(f'{path} cannot be read ({reason}): unpack it again.') from error


def _words(box: np.ndarray) -> str:
    return ','.join(f'{side:.4f}' for side in box)
