"""The built-in scenes with depth as files: ``images/SPLIT`` and ``annotations/SPLIT``, 16-bit PNG, 1000 to a meter."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from mstkit.scenes.depth_scenes import render_depth_scene
from mstkit.scenes.scene_files import write_png
from mstkit.scenes.scene_folder import claim_folder
from mstkit.utils.checks import check_count
from mstkit.utils.progress_bar import track

STAMP = 'depth_scenes.json'
UNITS = 1000  # in the size of an object, for which files have a meter


def ensure_depth_scenes(
    folder: str | os.PathLike[str], train: int = 400, val: int = 100, size: int = 128, objects: int = 5, seed: int = 0
) -> Path:
    """Writes the scenes that are not there yet; the same arguments give the same bytes.

    Args:
        folder: output folder, created if missing.
        train: number of training scenes.
        val: number of validation scenes.
        size: side of the images in pixels.
        objects: number of objects in a scene.
        seed: of the scenes.

    Returns:
        The folder.

    Raises:
        UsageError: an argument is out of range, or the folder holds something else.
    """
    folder = Path(folder)
    counts = dict(train=check_count('train', train, 1), val=check_count('val', val, 1))
    render_depth_scene(seed, 'train', 0, size, objects)  # raises for a wrong argument before anything is written
    arguments = dict(**counts, size=size, objects=objects, seed=seed)
    claim_folder(folder, STAMP, arguments)
    for split, count in counts.items():
        for index in track(range(count), count, f'{split} scenes with depth'):
            image, depth = (folder / kind / split / f'{index:06d}.png' for kind in ('images', 'annotations'))
            if image.exists() and depth.exists():
                continue
            scene = render_depth_scene(seed, split, index, size, objects)
            write_png(image, scene.image)
            write_png(depth, np.floor(scene.depth * np.float32(UNITS) + np.float32(0.5)).astype(np.uint16))
    return folder
