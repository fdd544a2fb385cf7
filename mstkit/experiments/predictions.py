"""Draws predictions of the runs of a task on validation images, beside the ground truth."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS, DefaultScope
from mmengine.structures import BaseDataElement
from PIL import Image

from mstkit.datasets.image_reader import read_image
from mstkit.engine.checkpoints.checkpointing import check_same_model, weights_of
from mstkit.engine.checkpoints.newest_checkpoint import find_newest
from mstkit.engine.runner.preflight import build_model
from mstkit.errors import UsageError
from mstkit.experiments.transfer import FineTuning
from mstkit.utils.build_errors import build_guard
from mstkit.visualization.data_samples import SCORE, Painter
from mstkit.visualization.image_sheet import lay_out
from mstkit.visualization.step_panels import save_image


class Prediction(NamedTuple):
    """An image, (H, W, 3) uint8 RGB, and its data sample with ground truth and prediction."""

    image: np.ndarray
    sample: BaseDataElement


def draw_predictions(runs: Mapping[str, FineTuning], path: Path, count: int = 4) -> None:
    """Draws a sheet with a row per image: the ground truth, then the prediction of each run.

    The image comes first where nothing of it is seen in these, as with depth.

    Args:
        runs: trained runs of one task, by the title of their column.
        path: of the PNG, which is written atomically.
        count: number of images, evenly spaced among the validation images that have objects.

    Raises:
        UsageError: a run has no checkpoint any more.
    """
    columns: dict[str, list[np.ndarray]] = {}
    unnamed: set[int] = set()
    for title, run in runs.items():
        predictions, painter = predict(run, count)
        if not columns:
            if any(painter.hides(sample) for _, sample in predictions):
                columns['image'] = [painter.plain(image) for image, _ in predictions]
            columns['truth'] = [painter.truth(*one) for one in predictions]
        columns[title] = [painter.prediction(*one) for one in predictions]
        unnamed |= painter.unnamed
    first = next(iter(runs.values()))
    heading = f'{first.task}, seed {first.seed}'
    heading += f'; detections of {100 * SCORE:.0f} % and more' if first.task == 'detection' else ''
    size = tuple(max(cell.shape[axis] for column in columns.values() for cell in column) for axis in (1, 0))
    cells = {title: [_padded(cell, size) for cell in column] for title, column in columns.items()}
    save_image(Image.fromarray(lay_out(cells, size, [heading], legend=painter.legend(unnamed))), path)


def predict(run: FineTuning, count: int) -> tuple[list[Prediction], Painter]:
    """Predicts validation images with the newest checkpoint of a run.

    Args:
        run: a trained run.
        count: number of images, evenly spaced among the validation images that have objects.

    Returns:
        The predictions, and a painter for them.

    Raises:
        UsageError: the run has no checkpoint, or one of another model.
    """
    found = find_newest(run.folder, parts=('meta', 'state_dict'))
    path, checkpoint = found.path, found.checkpoint
    if path is None or checkpoint is None:
        raise UsageError(f'{run.folder} has no checkpoint any more, so that its predictions cannot be drawn.')
    config = run.load()
    with _quiet(), DefaultScope.overwrite_default_scope(config.default_scope):
        model: Any = build_model(config.model, config.get('data_preprocessor'))
        with build_guard():
            dataset: Any = DATASETS.build(config.val_dataloader.dataset)
        weights = weights_of(checkpoint)
        check_same_model(model.state_dict(), weights, path)
        model.load_state_dict(weights)
        model.eval()
        predictions = []
        shown = _with_objects(dataset)
        for index in (shown[place] for place in _evenly(count, len(shown))):
            with torch.no_grad():
                (sample,) = model.test_step(pseudo_collate([dataset[index]]))
            predictions.append(Prediction(_image(dataset.get_data_info(index)), sample.cpu()))
    return predictions, Painter(dataset.metainfo)


def stack_images(files: Sequence[Path], path: Path) -> None:
    """Puts pictures below each other, in the order given, into one PNG, which is written atomically.

    Args:
        files: of the pictures.
        path: of the PNG.
    """
    images = [Image.fromarray(read_image(file)) for file in files]
    sheet = Image.new('RGB', (max(one.width for one in images), sum(one.height for one in images)), 'white')
    for number, image in enumerate(images):
        sheet.paste(image, (0, sum(one.height for one in images[:number])))
    save_image(sheet, path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppresses log lines and warnings of data sets and losses, which were already shown in training."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel('WARNING')
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', module='mm')
            yield
    finally:
        logger.setLevel(level)


def _evenly(count: int, length: int) -> list[int]:
    """``count`` evenly spaced indices below ``length``."""
    count = min(count, length)
    return [(2 * i + 1) * length // (2 * count) for i in range(count)]


def _with_objects(dataset: Any) -> list[int]:
    """The indices of images with objects; all indices if the data set does not list objects or has none."""
    everything = list(range(len(dataset)))
    return [index for index in everything if dataset.get_data_info(index).get('instances', True)] or everything


def _image(info: Mapping[str, Any]) -> np.ndarray:
    """The original image of a data set's entry, RGB."""
    return np.asarray(info['img']) if info.get('img') is not None else read_image(info['img_path'])


def _padded(cell: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Pads a cell with white, at the right and at the bottom, to a size (width, height)."""
    right, below = (length - cell.shape[axis] for length, axis in zip(size, (1, 0), strict=True))
    return np.pad(cell, ((0, below), (0, right), (0, 0)), constant_values=255)
