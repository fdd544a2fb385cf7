"""The built-in scenes as files: COCO's annotations and Cityscapes' label maps of the same images.

For each split, here ``val``, the folder holds::

    val2017/000000000001.png                                   the images
    annotations/instances_val2017.json                         their boxes and polygons; category ids are class_id + 1
    leftImg8bit/val/scenes/000000000001_leftImg8bit.png        the images again, as hard links
    gtFine/val/scenes/000000000001_gtFine_labelTrainIds.png    uint8: 0 for background, class_id + 1 for an object

There are no folders of classes. Several objects share a scene and hardly differ in size, so that one label for all of
them says little about the image; scenes of one object need no files, see :class:`mstkit.scenes.BuiltinScenes`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log
from PIL import Image

from mstkit.datasets.mask_polygons import mask_to_polygons
from mstkit.errors import UsageError
from mstkit.scenes.scene_images import CLASSES, Scene, render_scene
from mstkit.utils.checks import check_count
from mstkit.utils.files import PARTIAL, link_or_copy, remove_leftovers, write_atomically
from mstkit.utils.progress_bar import track

LABELS = ('background', *CLASSES)  # class names of the numbers in a label map
SMALLEST = 4  # visible pixels; smaller objects are not annotated
STAMP = 'scenes.json'
_UNFINISHED = '.unfinished'  # folder of temporary records until the stamp is written
_FORMAT = 1  # version of the files; folders of another version are not taken as complete


def ensure_scenes(
    folder: str | os.PathLike[str],
    train: int = 400,
    val: int = 100,
    size: int = 128,
    objects: int = 3,
    seed: int = 0,
) -> Path:
    """Writes the scenes, unless they exist already; continues an interrupted call.

    The same arguments give the same bytes (PNGs: with the same Pillow). Objects with fewer than ``SMALLEST`` visible
    pixels are not annotated; their number is logged, and written to the stamp file ``scenes.json``.

    Args:
        folder: output folder, created if missing.
        train: number of training scenes.
        val: number of validation scenes.
        size: side of the images in pixels.
        objects: number of objects per scene.
        seed: of the scenes.

    Returns:
        The folder.

    Raises:
        UsageError: an argument is out of range, or the folder holds something else or cannot be written.
    """
    folder = Path(folder)
    check_count('train', train, 1)
    check_count('val', val, 1)
    render_scene(seed, 'train', 0, size, objects)  # raises for a wrong argument before anything is written
    arguments = dict(format=_FORMAT, train=train, val=val, size=size, objects=objects, seed=seed)
    if not _is_there(folder, arguments):
        with _alone_in(folder):
            if not _is_there(folder, arguments):  # another process may have written them in the meantime
                _write(folder, arguments)
    return folder


def _is_there(folder: Path, arguments: Mapping[str, int]) -> bool:
    """Whether a folder contains all files of the scenes.

    Raises:
        UsageError: it contains other files.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f'{folder} is a file: choose another folder.')
    records = [path for path in (folder / STAMP, folder / _UNFINISHED / STAMP) if path.exists()]
    if not records:
        for name in sorted(path.name for path in folder.iterdir()) if folder.exists() else ():
            if name != _UNFINISHED and not name.endswith(PARTIAL):
                raise UsageError(f'{folder} holds {name}, which is no part of any scenes: choose another folder.')
        return False
    try:
        found = json.loads(records[0].read_text(encoding='utf-8'))['arguments']
        other = [f'{name} {found.get(name)} instead of {value}' for name, value in arguments.items()
                 if found.get(name) != value]  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(f'{records[0]} says nothing about scenes: choose another folder.') from None
    if other:
        raise UsageError(f'{folder} holds other scenes ({", ".join(other)}): choose another folder, or remove it.')
    if records[0].parent != folder or (folder / _UNFINISHED).exists():
        return False
    missing = [path for split in ('train', 'val') for path in _files(folder, split, arguments) if not path.is_file()]
    if missing:
        print_log(f'{len(missing)} files are missing, such as {missing[0]}: writing them again', logger='current')
    return not missing


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Creates the folder and locks it against other processes."""
    try:
        (folder / _UNFINISHED).mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise UsageError(f'{folder} cannot be written ({error.strerror}): choose another folder.') from error
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _write(folder: Path, arguments: Mapping[str, int]) -> None:
    for below in [folder, *(path for path in folder.rglob('*') if path.is_dir())]:
        remove_leftovers(below)
    # Written first, so that an unfinished folder can be recognized.
    _write_json(folder / _UNFINISHED / STAMP, dict(arguments=arguments))
    counts = {}
    for split in ('train', 'val'):
        annotations = _write_split(folder, split, arguments)
        left_out = arguments[split] * arguments['objects'] - len(annotations)
        counts[split] = dict(scenes=arguments[split], annotated=len(annotations), left_out=left_out)
        rest = f'; {left_out} more, of which fewer than {SMALLEST} pixels are seen, are not annotated'
        said = f'{folder}: {arguments[split]} {split} scenes with {len(annotations)} objects{rest if left_out else ""}'
        print_log(said, logger='current')
    _write_json(folder / STAMP, dict(arguments=arguments, **counts))
    shutil.rmtree(folder / _UNFINISHED)


def _write_split(folder: Path, split: str, arguments: Mapping[str, int]) -> list[dict[str, Any]]:
    """Writes the missing files of a split and returns its annotations."""
    size, objects, seed = (arguments[name] for name in ('size', 'objects', 'seed'))
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in track(range(arguments[split]), arguments[split], f'{split} scenes'):
        image, link, labels = files = _files_of(folder, split, index)
        record = folder / _UNFINISHED / split / f'{index}.json'
        if record.exists() and all(path.is_file() for path in files):
            seen = json.loads(record.read_text(encoding='utf-8'))
        else:
            scene = render_scene(seed, split, index, size, objects)
            write_png(image, scene.image)
            link_or_copy(image, link)
            write_png(labels, scene.label_map())
            seen = _annotate(scene)
            _write_json(record, seen)
        images.append(dict(id=index + 1, file_name=image.name, width=size, height=size))
        annotations += [dict(id=len(annotations) + n, image_id=index + 1, **one) for n, one in enumerate(seen, 1)]
    content = dict(
        info=dict(description='Scenes of mstkit', version=str(_FORMAT)),
        licenses=[],
        categories=[dict(id=number, name=name, supercategory='object') for number, name in enumerate(CLASSES, 1)],
        images=images,
        annotations=annotations,
    )
    _write_json(_annotation_file(folder, split), content)
    return annotations


def _annotate(scene: Scene) -> list[dict[str, Any]]:
    """COCO's annotations of a scene, without the ids that they get in their file."""
    found = []
    for instance in scene.instances:
        area = int(np.count_nonzero(instance.mask))
        if area >= SMALLEST:
            x1, y1, x2, y2 = instance.box
            found.append(
                dict(
                    category_id=instance.class_id + 1,
                    bbox=[x1, y1, x2 - x1, y2 - y1],
                    area=area,
                    iscrowd=0,
                    segmentation=mask_to_polygons(instance.mask),
                )
            )
    return found


def _annotation_file(folder: Path, split: str) -> Path:
    return folder / 'annotations' / f'instances_{split}2017.json'


def _files_of(folder: Path, split: str, index: int) -> tuple[Path, Path, Path]:
    """The image of a scene, its second name, and its label map."""
    name = f'{index + 1:012d}'
    return (
        folder / f'{split}2017' / f'{name}.png',
        folder / 'leftImg8bit' / split / 'scenes' / f'{name}_leftImg8bit.png',
        folder / 'gtFine' / split / 'scenes' / f'{name}_gtFine_labelTrainIds.png',
    )


def _files(folder: Path, split: str, arguments: Mapping[str, int]) -> Iterator[Path]:
    yield _annotation_file(folder, split)
    for index in range(arguments[split]):
        yield from _files_of(folder, split, index)


def write_png(path: Path, pixels: np.ndarray) -> None:
    """(H, W, 3) uint8 as RGB, (H, W) uint8 as one channel."""
    write_atomically(path, lambda file: Image.fromarray(pixels).save(file, format='PNG'))


def _write_json(path: Path, content: object) -> None:
    write_atomically(path, (json.dumps(content) + '\n').encode())
