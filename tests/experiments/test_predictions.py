"""Sheets of predictions, from checkpoints of the demo configs at a tiny size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image

from mstkit.engine.checkpoints.checkpointing import save
from mstkit.engine.runner.preflight import build_model
from mstkit.errors import UsageError
from mstkit.experiments.predictions import _with_objects, draw_predictions, predict
from mstkit.experiments.transfer import PRETRAINED, SCRATCH, FineTuning
from mstkit.scenes.depth_files import ensure_depth_scenes
from mstkit.scenes.figure_files import ensure_figure_scenes
from mstkit.visualization.data_samples import SIDE
from mstkit.visualization.image_sheet import LINE
from mstkit.visualization.step_panels import GAP

from ..test_downstream_configs import reduced
from .toy_transfer import CONFIGS, DEMO, make_run


@pytest.fixture(scope='module')
def made() -> dict[str, Any]:
    return {}


@pytest.fixture(params=CONFIGS)
def trained(request, made, scenes, tmp_path_factory) -> dict[str, FineTuning]:
    """Two runs of a task, each with a checkpoint of an untrained network of its own."""
    task = request.param
    if task not in made:
        folder = tmp_path_factory.mktemp(task)
        config = Config.fromfile(CONFIGS[task])
        reduced(config)
        for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
            loader.update(num_workers=0, persistent_workers=False)
            if task == 'classification':
                loader.dataset.num_images = 20
        if task == 'detection':
            config.model.test_cfg.rcnn.max_per_img = 2
        config.dump(folder / 'tiny.py')
        settings = {} if task == 'classification' else dict(data_root=str(scenes))
        made[task] = {}
        for seed, start in enumerate((PRETRAINED, SCRATCH)):
            run = make_run(folder, task, start, seed, config=folder / 'tiny.py', settings=settings)
            torch.manual_seed(seed)
            loaded = run.load()
            with DefaultScope.overwrite_default_scope(loaded.default_scope):
                model: Any = build_model(loaded.model)
            if task == 'detection':  # sure enough to be drawn, of one class each
                model.roi_head.bbox_head.fc_cls.bias.data[seed] = 3.0
            state = {name: value.cpu() for name, value in model.state_dict().items()}
            save(dict(meta=dict(epoch=1, iter=9), state_dict=state), run.folder / 'epoch_1.pth')
            made[task][start] = run
    return made[task]


def cells(sheet: np.ndarray, rows: int, columns: int, height: int = SIDE) -> list[list[np.ndarray]]:
    """The cells of a sheet, by row and column, from its white gaps."""
    top = GAP + 2 * LINE + GAP
    return [
        [
            sheet[top + r * (height + GAP) :, GAP + c * (SIDE + GAP) :][:height, :SIDE]
            for c in range(columns)
        ]
        for r in range(rows)
    ]  # fmt: skip


def test_a_sheet_has_the_truth_and_a_column_for_each_run(trained, tmp_path):
    path, run = tmp_path / 'new' / 'sheet.png', trained[PRETRAINED]
    before = sorted(run.folder.rglob('*'))
    draw_predictions(trained, path, 3)
    with Image.open(path) as image:
        image.verify()
    sheet = np.asarray(Image.open(path))
    named = run.task == 'classification'
    assert sheet.shape[1] == GAP + 3 * (SIDE + GAP)
    assert sheet.shape[0] >= 2 * GAP + 2 * LINE + 3 * (SIDE + named * LINE + GAP)
    grid = cells(sheet, 3, 3, SIDE + named * LINE)
    for truth, first, second in grid:
        assert not np.array_equal(truth, first) and not np.array_equal(truth, second)
        if named:  # the same image in every column, and another word below
            assert np.array_equal(truth[:SIDE], first[:SIDE]) and np.array_equal(truth[:SIDE], second[:SIDE])
        else:
            assert not np.array_equal(first, second), 'every run has its own predictions'
            lightness = [cell.mean(axis=2).ravel() for cell in (truth, first, second)]
            assert min(np.corrcoef(lightness)[0]) > 0.3, 'of the same image'
    assert not np.array_equal(grid[0][0], grid[1][0])
    below = sheet[2 * GAP + 2 * LINE + 3 * (SIDE + named * LINE + GAP) :]
    assert (below.shape[0] > LINE) == (run.task == 'segmentation'), 'a legend for colors without names'
    assert (sheet[:, -GAP:] == 255).all() and (sheet[-GAP // 2 :] == 255).all(), 'nothing runs over the edge'
    assert sorted(run.folder.rglob('*')) == before, 'a run keeps its folder for itself'


def untrained(folder: Path, task: str, file: str, root: str | Path) -> dict[str, FineTuning]:
    """Two runs of a demo config, each with a checkpoint of an untrained network of its own."""
    config = Config.fromfile(DEMO / file)
    reduced(config)
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
    config.dump(folder / 'tiny.py')
    runs = {}
    for seed, start in enumerate((PRETRAINED, SCRATCH)):
        settings = dict(data_root=str(root))
        run = runs[start] = make_run(folder, task, start, seed, config=folder / 'tiny.py', settings=settings)
        torch.manual_seed(seed)
        loaded = run.load()
        with DefaultScope.overwrite_default_scope(loaded.default_scope):
            model: Any = build_model(loaded.model)
        save(dict(meta=dict(epoch=1, iter=9), state_dict=model.state_dict()), run.folder / 'epoch_1.pth')
    return runs


def test_depth_is_drawn_beside_its_image(tmp_path):
    root = ensure_depth_scenes(tmp_path / 'depth', 1, 3, 64)
    runs = untrained(tmp_path, 'depth', 'depth_vit-nano_scenes.py', root)
    predictions, painter = predict(runs[PRETRAINED], 3)
    draw_predictions(runs, tmp_path / 'sheet.png', 3)
    grid = cells(np.asarray(Image.open(tmp_path / 'sheet.png')), 3, 4)
    for (image, _), (shown, truth, first, second) in zip(predictions, grid, strict=True):
        expected = painter.plain(image)
        assert np.array_equal(shown, (expected & 0xFC) | (expected >> 6)), 'with the 6 bits of a sheet'
        assert not np.array_equal(truth, first) and not np.array_equal(first, second)
        assert not np.array_equal(shown, truth)


def test_keypoints_are_drawn_in_the_whole_image(tmp_path):
    root = ensure_figure_scenes(tmp_path / 'figures', 1, 3, 64)
    runs = untrained(tmp_path, 'keypoints', 'keypoints_vit-nano_scenes.py', root)
    predictions, painter = predict(runs[PRETRAINED], 3)
    assert len(painter.skeleton) > 8
    for image, sample in predictions:
        assert image.shape == (64, 64, 3) and sample.pred_instances.keypoints.shape == (1, 13, 2)
        assert sample.pred_instances.keypoints.min() > -32 and sample.pred_instances.keypoints.max() < 96
        plain = np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        changed = (painter.truth(image, sample) != plain).any(axis=2)
        labeled = int((sample.gt_instances.keypoints_visible > 0).sum())
        assert 30 * labeled < changed.sum() < 0.3 * changed.size, 'dots and lines on the image'
    draw_predictions(runs, tmp_path / 'sheet.png', 3)
    grid = cells(np.asarray(Image.open(tmp_path / 'sheet.png')), 3, 3)
    assert all(not np.array_equal(truth, one) for truth, *others in grid for one in others)


def test_no_more_images_than_there_are(trained, tmp_path):
    (run, *_) = trained.values()
    predictions, _ = predict(run, 50)
    assert len(predictions) == (20 if run.task == 'classification' else 6)
    side = 48 if run.task == 'classification' else 64
    assert {one.image.shape for one in predictions} == {(side, side, 3)}
    if run.task == 'detection':
        assert all((one.sample.pred_instances.scores > 0.3).any() for one in predictions)


def test_a_run_without_a_checkpoint(tmp_path):
    with pytest.raises(UsageError, match='has no checkpoint any more'):
        draw_predictions({PRETRAINED: make_run(tmp_path)}, tmp_path / 'sheet.png')
    assert not Path(tmp_path / 'sheet.png').exists()


def test_images_that_show_nothing_are_not_shown():
    class Found:
        def __init__(self, objects: list[int | None]) -> None:
            self.objects = objects

        def __len__(self) -> int:
            return len(self.objects)

        def get_data_info(self, index: int) -> dict[str, Any]:
            count = self.objects[index]
            return {} if count is None else dict(instances=[{}] * count)

    assert _with_objects(Found([0, 2, 0, 1])) == [1, 3]
    assert _with_objects(Found([0, 0])) == [0, 1], 'none has any'
    assert _with_objects(Found([None, None])) == [0, 1], 'a task without objects'
