"""Converts the label maps of Cityscapes from ids to train ids.

mmseg's converter (``tools/dataset_converters/cityscapes.py``) is not used: it draws the polygons again, which needs
cityscapesScripts; it starts from the beginning each time, leaves partial files when it is interrupted, overwrites
existing label maps and the lists ``train.txt`` to ``test.txt``, and checks nothing.
"""

from __future__ import annotations

import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from mstkit.datasets.folder_scan import scan_folder
from mstkit.downstream.label_checks import IGNORED, read_label_map
from mstkit.errors import UsageError
from mstkit.utils.few_of_many import first_few
from mstkit.utils.files import remove_leftovers, write_atomically
from mstkit.utils.progress_bar import track

LABEL_IDS, TRAIN_IDS = '_gtFine_labelIds.png', '_gtFine_labelTrainIds.png'
TOOL = 'python tools/dataset_converters/cityscapes_train_ids.py'

# The ids (0 to 33) of the trained classes, in the order of their train ids: road 0 to bicycle 18, as in mmseg's
# CityscapesDataset. Source: the table in cityscapesscripts/helpers/labels.py of the data set's own scripts.
IDS = 34
TRAINED = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
LICENSE_PLATE = 255  # its id is -1, which is stored as this byte; not trained on


class Written(NamedTuple):
    """The result of :func:`write_train_ids`.

    Attributes:
        new: number of label maps written.
        already: number of label maps that existed before.
    """

    new: int
    already: int


def to_train_ids(labels: np.ndarray) -> np.ndarray:
    """Replaces ids by train ids.

    Args:
        labels: (H, W) uint8, ids of Cityscapes; -1 is 255.

    Returns:
        (H, W) uint8, 0 to 18, and 255 for classes that are not trained on.

    Raises:
        ValueError: there are invalid ids, which the message lists.
    """
    table = np.full(256, IGNORED, np.uint8)
    table[list(TRAINED)] = range(len(TRAINED))
    unknown = labels[(labels >= IDS) & (labels != LICENSE_PLATE)]
    if unknown.size:
        raise ValueError(first_few(np.unique(unknown).tolist(), 5))
    return table[labels]


def write_train_ids(root: str | os.PathLike[str], jobs: int = 1) -> Written:
    """Writes ``*_gtFine_labelTrainIds.png`` beside every ``*_gtFine_labelIds.png``.

    Existing files are kept, and files are written atomically, so that an interrupted call can be completed by
    another one.

    Args:
        root: the folder of Cityscapes, with ``gtFine`` in it.
        jobs: number of files that are converted at the same time.

    Returns:
        The numbers of label maps.

    Raises:
        UsageError: the folder is missing or has no label maps, or one of them is not from Cityscapes.
    """
    folder = Path(root) / 'gtFine'
    if not folder.is_dir():
        raise UsageError(_no_such_folder(Path(root)))
    names = scan_folder(str(folder), ('.png',)).images
    there = {name for name in names if name.endswith(TRAIN_IDS)}
    sources = [name for name in names if name.endswith(LABEL_IDS)]
    if not sources and not there:
        raise UsageError(f'{folder} holds no *{LABEL_IDS}: unpack gtFine_trainvaltest.zip of Cityscapes into {root}.')
    todo = [folder / name for name in sources if name.removesuffix(LABEL_IDS) + TRAIN_IDS not in there]
    for city in {path.parent for path in todo}:
        remove_leftovers(city)
    # Threads suffice: Pillow releases the GIL while it reads and writes PNG.
    pool = ThreadPoolExecutor(jobs)
    try:
        for _ in track(pool.map(_convert, todo), len(todo), 'label maps'):
            pass
    finally:
        pool.shutdown(cancel_futures=True)
    return Written(len(todo), len(there))


def _convert(source: Path) -> None:
    labels = read_label_map(source)
    if labels.ndim != 2 or labels.dtype != np.uint8:
        raise UsageError(f'{source} is not a label map of Cityscapes (one channel of 8 bits): unpack it again.')
    try:
        train_ids = to_train_ids(labels)
    except ValueError as error:
        raise UsageError(
            f'{source} has ids that Cityscapes does not: {error}; its ids are 0 to {IDS - 1}. Remove the file, '
            'or use LabelMapFolder for labels of your own.'
        ) from None
    content = io.BytesIO()
    Image.fromarray(train_ids).save(content, 'PNG')
    write_atomically(source.with_name(source.name.removesuffix(LABEL_IDS) + TRAIN_IDS), content.getvalue())


def _no_such_folder(root: Path) -> str:
    if not root.is_dir():
        return f'the folder {root} does not exist: give the folder into which Cityscapes was unpacked.'
    if root.name == 'gtFine':
        return f'{root} has no folder gtFine in it: give the folder above, {root.parent}.'
    holds = sorted(entry.name for entry in os.scandir(root))
    found = f'it holds {first_few(holds, 5)}' if holds else 'it is empty'
    return (
        f'{root} has no folder gtFine ({found}): give the folder into which gtFine_trainvaltest.zip of Cityscapes '
        'was unpacked.'
    )
