"""Draws input, attention, mask and reconstruction of a few fixed images during training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine import dist
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.visualization import LocalVisBackend

from mstkit.engine.hooks.colored_views import first_view, join
from mstkit.engine.parallel.distributed import unwrapped
from mstkit.models import interface_of
from mstkit.models.data_preprocessors import normalization_of
from mstkit.registry import HOOKS
from mstkit.utils.checks import check_count
from mstkit.utils.local_shards import is_sharded
from mstkit.utils.log_marks import ON_SCREEN
from mstkit.utils.private_attributes import backends_of
from mstkit.utils.undisturbed import evaluation_mode, undisturbed_randomness
from mstkit.visualization.step_panels import draw_panels


@HOOKS.register_module()
class PanelHook(Hook):
    """Draws ``model.panel(images)`` at the start, every few epochs and at the end.

    The images are the same throughout the run: evenly spaced in the training set (the first ones are often all of one
    class), each with the training augmentation of epoch 0. Written to ``work_dir/panels/epoch_NNN.png`` (after NNN
    epochs) and to the backends of the visualizer, such as TensorBoard; the local one would write it once more, and
    not atomically. Rank 0 draws; the training does not change.

    Args:
        interval: epochs between two panels.
        num_images: rows of a panel.
    """

    # After ProgressHook has set the epoch in the maskers.
    priority = 'LOW'

    def __init__(self, interval: int = 10, num_images: int = 8) -> None:
        self.interval = check_count('PanelHook.interval', interval, 1)
        self.num_images = check_count('PanelHook.num_images', num_images, 1)
        self.views: dict[str, Any] | None = None

    def before_train(self, runner: Runner) -> None:
        """Draws the untrained network, except in a resumed run."""
        if runner.iter == 0:
            self._draw(runner, epoch=0)

    def after_train_epoch(self, runner: Runner) -> None:
        """Draws every ``interval`` epochs and after the last one."""
        if self.every_n_epochs(runner, self.interval) or self.is_last_train_epoch(runner):
            self._draw(runner, epoch=runner.epoch + 1)

    def _draw(self, runner: Runner, epoch: int) -> None:
        model: Any = unwrapped(runner.model)
        if not dist.is_main_process() and not is_sharded(model):  # a sharded model needs all processes
            return
        with undisturbed_randomness(), evaluation_mode(model), torch.no_grad():
            if self.views is None:
                self.views = self._first_views(runner.train_dataloader.dataset)
            prepared = model.data_preprocessor(self.views, False)
            panel = interface_of(model).panel(prepared['inputs'])
        if panel is None:
            if epoch == 0:
                runner.logger.info(f'panels are off: {type(model).__name__} has nothing to show of a step')
            return
        if not dist.is_main_process():
            return
        mean, std = (values.expand(3) for values in normalization_of(model.data_preprocessor))
        path = Path(runner.work_dir) / 'panels' / f'epoch_{epoch:03d}.png'
        image = draw_panels(panel, mean, std, path, max_rows=self.num_images)
        for backend in backends_of(runner.visualizer):
            if not isinstance(backend, LocalVisBackend):
                backend.add_image('panels', image, step=epoch)
        runner.logger.info(f'panels of epoch {epoch}: {path}', extra=ON_SCREEN)

    def _first_views(self, dataset: Any) -> dict[str, Any]:
        """A batch of the first views of evenly spaced images, (B, 3, H, W) uint8."""
        count = min(self.num_images, len(dataset))
        chosen = np.linspace(0, len(dataset) - 1, count).round().astype(int).tolist()
        return join([first_view(dataset[index]) for index in chosen], stack=True)
