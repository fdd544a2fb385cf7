"""Trackers of experiments, as backends of mmengine's visualizer: they do not end a training that has begun."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.visualization import BaseVisBackend, MLflowVisBackend, WandbVisBackend

from mstkit.errors import UsageError
from mstkit.registry import VISBACKENDS
from mstkit.utils.checks import check_text

PROJECT = 'mstkit'  # in which the runs of a tracker are, unless its own variable says otherwise
BY_EPOCH = ('knn/', 'collapse/')  # what is measured once an epoch


class Tracker(BaseVisBackend):
    """What the trackers have in common.

    One that cannot be reached stops a run before anything is trained. What it does not take later is counted and said:
    the files of the work dir have all of it.

    Raises:
        UsageError: at the first use, if the tracker cannot be reached.
    """

    title = ''
    remedy = ''
    missed = 0

    def begin(self) -> None:
        """Begins a run of the tracker."""
        super()._init_env()

    def _init_env(self) -> None:
        try:
            self.begin()
        except Exception as error:  # whatever the package raises
            raise UsageError(f'{self.title} cannot be told of the run: {_first_line(error)}. {self.remedy}') from error

    def _tell(self, tell: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        try:
            tell(*args, **kwargs)
        except UsageError:
            raise
        except Exception as error:  # whatever the package raises
            self.missed += 1
            if self.missed == 1:
                _warn(f'{self.title} did not take a record, and the run goes on without it: {_first_line(error)}')

    def add_config(self, config: Config, **kwargs: Any) -> None:
        """Records the config."""
        self._tell(super().add_config, config, **kwargs)

    def add_image(self, name: str, image: np.ndarray, step: int = 0, **kwargs: Any) -> None:
        """Records an image, (H, W, 3) uint8, RGB."""
        self._tell(super().add_image, name, image, step, **kwargs)

    def add_scalar(self, name: str, value: Any, step: int = 0, **kwargs: Any) -> None:
        """Records a number."""
        self._tell(super().add_scalar, name, value, step, **kwargs)

    def add_scalars(self, scalar_dict: dict, step: int = 0, file_path: str | None = None, **kwargs: Any) -> None:
        """Records several numbers."""
        self._tell(super().add_scalars, scalar_dict, step, file_path, **kwargs)

    def close(self) -> None:
        """Ends the run of the tracker, and says how many records it does not have."""
        self._tell(super().close)
        if self.missed:
            _warn(f'{self.title} did not take {self.missed} records; the files of the work dir have them')


@VISBACKENDS.register_module()
class WandbTracker(Tracker, WandbVisBackend):
    """Weights & Biases; its own variables, such as ``WANDB_MODE=offline``, decide where it writes.

    What is measured once an epoch is drawn over epochs. No code is uploaded.

    Args:
        save_dir: for its files; the visualizer's.
        run: name of the run, unless ``WANDB_NAME`` gives one. Its project is ``mstkit``, unless ``WANDB_PROJECT`` does.
    """

    title = 'Weights & Biases'
    remedy = 'Log in with "wandb login", or set WANDB_MODE=offline to keep its files here for "wandb sync".'

    def __init__(self, save_dir: str, run: str) -> None:
        named = {'WANDB_PROJECT': ('project', PROJECT), 'WANDB_NAME': ('name', check_text('WandbTracker.run', run))}
        super().__init__(
            save_dir,
            init_kwargs=dict(pair for variable, pair in named.items() if variable not in os.environ),
            define_metric_cfg=[dict(name=f'{kind}*', step_metric='epoch') for kind in BY_EPOCH],
        )

    def add_config(self, config: Config, **kwargs: Any) -> None:
        """Records the config; mmengine would also upload all Python files below the current folder."""
        self._tell(lambda: self.experiment.config.update(config.to_dict()))

    def add_scalars(self, scalar_dict: dict, step: int = 0, file_path: str | None = None, **kwargs: Any) -> None:
        """Records several numbers."""
        if any(name.startswith(BY_EPOCH) for name in scalar_dict):
            scalar_dict = {**scalar_dict, 'epoch': step}
        super().add_scalars(scalar_dict, step, file_path, **kwargs)


@VISBACKENDS.register_module()
class MLflowTracker(Tracker, MLflowVisBackend):
    """MLflow, at the address that its own variable ``MLFLOW_TRACKING_URI`` has, or where MLflow writes by default.

    Args:
        save_dir: the visualizer's; not used.
        run: name of the run, unless ``MLFLOW_RUN_NAME`` gives one. Its experiment is ``mstkit``, unless
            ``MLFLOW_EXPERIMENT_NAME`` gives another.
    """

    title = 'MLflow'
    remedy = 'MLFLOW_TRACKING_URI says where its server is, or its file: sqlite:///mlflow.db.'

    def __init__(self, save_dir: str, run: str) -> None:
        super().__init__(save_dir)
        self.experiment_name = os.environ.get('MLFLOW_EXPERIMENT_NAME', PROJECT)
        self.run = os.environ.get('MLFLOW_RUN_NAME', check_text('MLflowTracker.run', run))

    def begin(self) -> None:
        """Begins a run where MLflow's own variables say; mmengine takes a folder, which MLflow 3 refuses."""
        import mlflow  # installed apart

        self._mlflow = mlflow
        mlflow.set_experiment(self.experiment_name)
        mlflow.start_run(run_name=self.run)

    # mmengine's would warn of each record that is not taken.

    def add_image(self, name: str, image: np.ndarray, step: int = 0, **kwargs: Any) -> None:
        """Records an image as a file of its step."""
        self._tell(lambda: self.experiment.log_image(image, f'{name}/{step:05d}.png'))

    def add_scalar(self, name: str, value: Any, step: int = 0, **kwargs: Any) -> None:
        """Records a number."""
        self.add_scalars({name: value}, step)

    def add_scalars(self, scalar_dict: dict, step: int = 0, file_path: str | None = None, **kwargs: Any) -> None:
        """Records several numbers."""
        self._tell(lambda: self.experiment.log_metrics(scalar_dict, step))


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()  # none, if the message is empty
    return f'{type(error).__name__}: {lines[0].rstrip(".")}' if lines else repr(error)


def _warn(text: str) -> None:
    print_log(text, logger='current', level=logging.WARNING)
