"""The built-in scenes with figures as files, in COCO's layout and format for keypoints."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from mstkit.scenes.figure_bodies import JOINTS, SKELETON
from mstkit.scenes.figure_scenes import FigureScene, render_figure_scene
from mstkit.scenes.scene_files import write_png
from mstkit.scenes.scene_folder import claim_folder
from mstkit.utils.checks import check_count
from mstkit.utils.files import write_atomically
from mstkit.utils.progress_bar import track

STAMP = 'figure_scenes.json'
_CATEGORY = dict(
    id=1,
    name='figure',
    supercategory='figure',
    keypoints=list(JOINTS),
    skeleton=[[JOINTS.index(first) + 1, JOINTS.index(second) + 1] for first, second in SKELETON],
)


def ensure_figure_scenes(
    folder: str | os.PathLike[str], train: int = 400, val: int = 100, size: int = 128, objects: int = 3, seed: int = 0
) -> Path:
    """Writes the scenes that are not there yet; the same arguments give the same bytes.

    Args:
        folder: output folder, created if missing.
        train: number of training scenes.
        val: number of validation scenes.
        size: side of the images in pixels.
        objects: number of figures in a scene at most.
        seed: of the scenes.

    Returns:
        The folder: ``train2017``, ``val2017`` and ``annotations/person_keypoints_{train,val}2017.json``.

    Raises:
        UsageError: an argument is out of range, or the folder holds something else.
    """
    folder = Path(folder)
    counts = dict(train=check_count('train', train, 1), val=check_count('val', val, 1))
    render_figure_scene(seed, 'train', 0, size, objects)  # raises for a wrong argument before anything is written
    claim_folder(folder, STAMP, dict(**counts, size=size, objects=objects, seed=seed))
    for split, count in counts.items():
        names = [f'{index + 1:012d}.png' for index in range(count)]
        images, annotated = folder / f'{split}2017', folder / 'annotations' / f'person_keypoints_{split}2017.json'
        if annotated.exists() and all((images / name).exists() for name in names):
            continue
        annotations: list[dict[str, Any]] = []
        for index, name in enumerate(track(names, count, f'{split} scenes with figures')):
            scene = render_figure_scene(seed, split, index, size, objects)
            if not (images / name).exists():
                write_png(images / name, scene.image)
            annotations += _annotate(scene, index + 1, len(annotations) + 1)
        listed = [dict(id=row, file_name=name, width=size, height=size) for row, name in enumerate(names, start=1)]
        content = dict(
            info=dict(description='Figures of mstkit'),
            licenses=[],
            categories=[_CATEGORY],
            images=listed,
            annotations=annotations,
        )
        write_atomically(annotated, (json.dumps(content) + '\n').encode())
    return folder


def _annotate(scene: FigureScene, image: int, first: int) -> list[dict[str, Any]]:
    """COCO's annotations of a scene, numbered from ``first`` on."""
    return [
        dict(
            id=number,
            image_id=image,
            category_id=_CATEGORY['id'],
            bbox=list(figure.box),
            area=figure.area,
            iscrowd=0,
            num_keypoints=int((figure.keypoints[:, 2] > 0).sum()),
            keypoints=[value for x, y, v in figure.keypoints.tolist() for value in (round(x, 3), round(y, 3), int(v))],
        )
        for number, figure in enumerate(scene.figures, start=first)
    ]
