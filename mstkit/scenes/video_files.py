"""The built-in videos as files, in the layout of GOT-10k: a folder of frames and boxes for each, and a list."""

from __future__ import annotations

import os
from pathlib import Path

from mstkit.scenes.scene_files import write_png
from mstkit.scenes.scene_folder import claim_folder
from mstkit.scenes.video_scenes import VideoScene, render_video
from mstkit.utils.checks import check_count
from mstkit.utils.files import write_atomically
from mstkit.utils.progress_bar import track

STAMP = 'video_scenes.json'
_COVERS = (0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9)  # where GOT-10k's numbers 1 to 7 of the seen share begin; 8 is all


def ensure_videos(
    folder: str | os.PathLike[str],
    train: int = 0,
    val: int = 20,
    size: int = 128,
    frames: int = 16,
    objects: int = 4,
    seed: int = 0,
) -> Path:
    """Writes the videos that are not there yet; the same arguments give the same bytes.

    Args:
        folder: output folder, created if missing.
        train: number of training videos; none of them is needed to measure without training.
        val: number of validation videos.
        size: side of the frames in pixels.
        frames: number of frames of a video.
        objects: number of objects in a video, one of which is followed.
        seed: of the videos.

    Returns:
        The folder: ``SPLIT/list.txt`` names its videos, ``SPLIT/NAME`` holds ``00000001.png`` and so on,
        ``groundtruth.txt`` with left, top, width and height of each frame, ``cover.label`` and ``absence.label``.

    Raises:
        UsageError: an argument is out of range, or the folder holds something else.
    """
    folder = Path(folder)
    counts = dict(train=check_count('train', train, 0), val=check_count('val', val, 1))
    render_video(seed, 'val', 0, size, frames, objects)  # raises for a wrong argument before anything is written
    claim_folder(folder, STAMP, dict(**counts, size=size, frames=frames, objects=objects, seed=seed))
    for split, count in counts.items():
        names = [f'{split}_{index:06d}' for index in range(count)]
        for index, name in enumerate(track(names, count, f'{split} videos')):
            if not (folder / split / name / 'groundtruth.txt').exists():  # the last file of a video
                _write_video(folder / split / name, render_video(seed, split, index, size, frames, objects))
        if names:
            _write_lines(folder / split / 'list.txt', names)
    return folder


def _write_video(folder: Path, video: VideoScene) -> None:
    for number, pixels in enumerate(video.frames, start=1):
        write_png(folder / f'{number:08d}.png', pixels)
    _write_lines(folder / 'cover.label', [str(_cover(share)) for share in video.seen])
    _write_lines(folder / 'absence.label', [str(int(share == 0)) for share in video.seen])
    _write_lines(folder / 'groundtruth.txt', [','.join(f'{side:.4f}' for side in box) for box in video.boxes])


def _cover(share: float) -> int:
    """0 where nothing is seen, 8 where all is, between them in steps of 15 %."""
    return 8 if share == 1 else sum(share > begin for begin in _COVERS)


def _write_lines(path: Path, lines: list[str]) -> None:
    write_atomically(path, ('\n'.join(lines) + '\n').encode())
