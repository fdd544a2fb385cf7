"""Predictions of the runs of a task, drawn on pictures of its validation set beside the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import VISUALIZERS, DefaultScope
from mmengine.structures import BaseDataElement
from PIL import Image

from mstkit.engine.measure import testing_runner
from mstkit.files import write_atomically
from mstkit.transfer.plan import Run

SCORE = 0.3  # detections below are not drawn
SIDE = 320  # px, of the longer side of a drawn picture


def draw_predictions(runs: Mapping[str, Run], path: Path, count: int = 4) -> None:
    """Draws a sheet: a row per picture, its truth first, then what each run predicts.

    Args:
        runs: finished runs of one task, by the title of their column.
        path: of the PNG.
        count: pictures, evenly spread over the validation set.
    """
    columns: dict[str, list[np.ndarray]] = {}
    captions: dict[str, list[str]] = {}
    for title, run in runs.items():
        config = run.load()
        runner = testing_runner(config)
        assert run.checkpoint is not None
        runner.load_checkpoint(str(run.checkpoint), strict=True)
        dataset = runner.test_dataloader.dataset
        painter = _Painter(config, dataset.metainfo)
        runner.model.eval()
        samples = []
        for index in _spread(count, len(dataset)):
            with torch.no_grad():
                (sample,) = runner.model.test_step(pseudo_collate([dataset[index]]))
            samples.append((_picture(dataset, index, sample), sample))
        if not columns:
            columns['truth'] = [painter.truth(image, sample) for image, sample in samples]
            captions['truth'] = [painter.words(sample, 'gt_label') for _, sample in samples]
        columns[title] = [painter.prediction(image, sample) for image, sample in samples]
        captions[title] = [painter.words(sample, 'pred_label') for _, sample in samples]
    _sheet(columns, captions, path)


class _Painter:
    """Draws a data sample by the toolbox's own visualizer, where it has one for it."""

    def __init__(self, config: Any, metainfo: Mapping[str, Any]) -> None:
        self.classes: Sequence[str] = metainfo.get('classes', ())
        self.visualizer = None
        if config.default_scope in ('mmdet', 'mmseg'):
            with DefaultScope.overwrite_default_scope(config.default_scope):
                self.visualizer = VISUALIZERS.build(dict(config.visualizer, name='transfer', vis_backends=None))
            self.visualizer.dataset_meta = dict(metainfo)
        self.options: dict[str, Any] = (
            dict(pred_score_thr=SCORE) if config.default_scope == 'mmdet' else dict(with_labels=False)
        )

    def truth(self, image: np.ndarray, sample: BaseDataElement) -> np.ndarray:
        return self._drawn(image, sample, truth=True)

    def prediction(self, image: np.ndarray, sample: BaseDataElement) -> np.ndarray:
        return self._drawn(image, sample, truth=False)

    def words(self, sample: BaseDataElement, label: str) -> str:
        """The class of a classified picture, or nothing."""
        if label not in sample:
            return ''
        number = int(sample.get(label).reshape(-1)[0])
        return str(self.classes[number]) if number < len(self.classes) else str(number)

    def _drawn(self, image: np.ndarray, sample: BaseDataElement, truth: bool) -> np.ndarray:
        if self.visualizer is None:
            return image
        captured: list[np.ndarray] = []
        self.visualizer.add_image = lambda name, drawn, step=0: captured.append(drawn)
        self.visualizer.add_datasample(
            'sample', image, sample.cpu(), draw_gt=truth, draw_pred=not truth, **self.options
        )
        return captured[-1]


def _spread(count: int, length: int) -> list[int]:
    """Numbers of pictures, evenly spread."""
    count = min(count, length)
    return [(2 * i + 1) * length // (2 * count) for i in range(count)]


def _picture(dataset: Any, index: int, sample: BaseDataElement) -> np.ndarray:
    """The original picture, RGB, at the size that predictions refer to."""
    info = dataset.get_data_info(index)
    if info.get('img') is not None:
        return np.asarray(info['img'])
    with Image.open(sample.metainfo.get('img_path') or info['img_path']) as file:
        return np.asarray(file.convert('RGB'))


def _sheet(columns: Mapping[str, list[np.ndarray]], captions: Mapping[str, list[str]], path: Path) -> None:
    from matplotlib.figure import Figure  # here, because most uses of the package draw nothing

    rows = len(next(iter(columns.values())))
    height, width = next(iter(columns.values()))[0].shape[:2]
    cell = 2.6
    figure = Figure(figsize=(cell * len(columns), cell * height / width * rows + 0.3), layout='constrained', dpi=110)
    grid = figure.subplots(rows, len(columns), squeeze=False)
    for column, (title, images) in enumerate(columns.items()):
        for row, image in enumerate(images):
            axes = grid[row][column]
            scaled = Image.fromarray(image.astype(np.uint8))
            scaled.thumbnail((SIDE, SIDE))
            axes.imshow(scaled)
            axes.set_axis_off()
            words = captions[title][row]
            head = title if row == 0 else ''
            axes.set_title('\n'.join(word for word in (head, words) if word), fontsize=8)
    write_atomically(path, lambda file: figure.savefig(file, format='png'))
