"""k-NN accuracy of student and teacher while they train, and the checkpoint of the best one."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine import dist
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset

from mstkit.datasets.file_dataset import keep_in_memory
from mstkit.engine.optim.optim_wrapper import DistillationOptimWrapper
from mstkit.engine.optim.precision import precision_name
from mstkit.engine.parallel.data_agreement import check_same
from mstkit.engine.parallel.distributed import unwrapped
from mstkit.errors import UsageError
from mstkit.evaluation.features import PooledEncoder, extract_features, feature_loader
from mstkit.evaluation.image_sets import check_sets
from mstkit.evaluation.protocols.weighted_knn import DEFAULT_KS, check_ks, clip_ks, knn_accuracy
from mstkit.models import interface_of
from mstkit.registry import DATASETS, HOOKS, TRANSFORMS
from mstkit.utils.build_errors import build_guard
from mstkit.utils.checks import check_count, check_number, check_one_of, check_workers
from mstkit.utils.json_lines import EpochLines
from mstkit.utils.log_marks import ON_SCREEN
from mstkit.utils.private_attributes import loaded_from
from mstkit.utils.undisturbed import undisturbed_randomness

STATE = 'knn_state'


@HOOKS.register_module()
class KNNHook(Hook):
    """Measures weighted k-NN accuracy at the start, every few epochs and at the end.

    Every branch of the model (student and teacher; of another library's model, its backbone) is measured in one pass
    over the images, on features gathered over the ranks. Random generators, train/eval modes and running statistics
    of the training do not change. Results go to the log, to the visualizer (``knn/{branch}_k{k}_top1``) and to
    ``work_dir/knn.jsonl``, where epoch N means after N epochs; a resumed run appends to that file. The best weights
    are kept in ``work_dir/best_knn.pth``.

    Args:
        train_dataset: config of the labeled images of the bank, with a deterministic pipeline.
        val_dataset: config of the labeled images to classify, with the same classes.
        interval: epochs between two measurements.
        at_start: measure before the first epoch too (never when resuming).
        ks: numbers of neighbors; those above the size of the bank are clipped to it.
        headline_k: the k of the log line, by which the best weights are chosen; one of ``ks``.
        temperature: of the weighted votes.
        batch_size: images per forward pass, on each rank.
        num_workers: processes that load images.
        max_train: at most this many images in the bank, spread evenly over the data set; None takes all.
        save_best: keep the checkpoint with the best accuracy.
        best_branch: the branch by whose accuracy the best weights are chosen; the first one if the model lacks it.
        allow_overlap: measure although images of val_dataset are in train_dataset too.
        required: raise an error if a data set is missing or unlabeled, instead of switching k-NN off with a warning.
        precision: of the features: ``fp32``, as :mod:`mstkit.evaluation` computes them, so that a checkpoint has the
            same accuracy afterwards; or ``same`` as the forward pass of the training (``optim_wrapper.precision``),
            which takes half of the time on a CPU with bf16 and may differ by a few images.
    """

    # After the parameter schedulers (LOW, 70), so that a run can be resumed from best_knn.pth; before the checkpoint
    # hook (VERY_LOW, 90), so that checkpoints hold the state of this hook.
    priority = 80

    def __init__(
        self,
        train_dataset: dict,
        val_dataset: dict,
        interval: int = 1,
        at_start: bool = True,
        ks: Sequence[int] = DEFAULT_KS,
        headline_k: int = 20,
        temperature: float = 0.07,
        batch_size: int = 64,
        num_workers: int = 0,
        max_train: int | None = None,
        save_best: bool = True,
        best_branch: str = 'teacher',
        required: bool = False,
        allow_overlap: bool = False,
        precision: str = 'fp32',
    ) -> None:
        for name, value in dict(interval=interval, batch_size=batch_size).items():
            check_count(f'KNNHook.{name}', value, 1)
        if max_train is not None:
            check_count('KNNHook.max_train', max_train, 1)
        check_workers('KNNHook.num_workers', num_workers)
        self.ks = check_ks(ks)
        if headline_k not in self.ks:
            raise UsageError(f'KNNHook: headline_k={headline_k!r} is not one of ks={list(self.ks)}.')
        check_number('KNNHook.temperature', temperature, above=0)
        check_one_of('KNNHook.precision', precision, ('same', 'fp32'))
        self.dataset_configs = {'train': train_dataset, 'val': val_dataset}
        self.interval = interval
        self.at_start = at_start
        self.headline_k = headline_k
        self.temperature = temperature
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.max_train = max_train
        self.save_best = save_best
        self.best_branch = best_branch
        self.required = required
        self.allow_overlap = allow_overlap
        self.precision = precision
        self.loaders: dict[str, DataLoader] | None = None

    def before_run(self, runner: Runner) -> None:
        """Builds the data sets before training, so that errors in them show early.

        Raises:
            UsageError: they differ between processes, one of their transforms cannot be built, or, if ``required``, one
                of them cannot.
        """
        datasets, problem = {}, None
        self._check_pipelines()
        try:
            with undisturbed_randomness():
                datasets = {name: self._dataset(name) for name in self.dataset_configs}
                if self.dataset_configs['train'] == self.dataset_configs['val'] and not self.allow_overlap:
                    raise UsageError('train_dataset and val_dataset are the same, so every image would find itself.')
                check_sets(datasets['train'], datasets['val'], self.allow_overlap, 'set KNNHook.allow_overlap=True')
        except (UsageError, FileNotFoundError) as error:
            if self.required:
                raise UsageError(f'k-NN cannot be measured: {error}') from error
            problem = str(error)
        # If k-NN is off on one rank it has to be off on all, or the others would wait for it.
        problem = next(filter(None, dist.all_gather_object(problem)), None)
        if problem is not None:
            runner.logger.warning(f'k-NN is off: {problem}')
            return
        model = unwrapped(runner.model)
        if not interface_of(model).branches():
            runner.logger.info(f'k-NN is off: {type(model).__name__} has no backbone to take features from')
            return
        for name, dataset in datasets.items():
            check_same(f'the k-NN {name} set', dict(images=len(dataset)))  # type: ignore[arg-type]
        size = len(datasets['train'])  # type: ignore[arg-type]
        if max(self.ks) > size:
            runner.logger.info(
                f'k-NN: the bank has {size} images, so k {list(self.ks)} becomes {clip_ks(self.ks, size)}'
            )
            self.ks = clip_ks(self.ks, size)
        for dataset in datasets.values():
            keep_in_memory(dataset)
        self.loaders = {
            name: feature_loader(dataset, self.batch_size, self.num_workers, equal_shares=True)
            for name, dataset in datasets.items()
        }

    def before_train(self, runner: Runner) -> None:
        """Measures the initial weights; on a resumed run, only removes records of later epochs."""
        if self.loaders is None:
            return
        fresh = runner.iter == 0
        if fresh:
            runner.message_hub.update_info(STATE, {'best': None, 'best_epoch': None, 'start': None, 'start_name': None})
        if dist.is_main_process():
            self._lines(runner).keep_until(-1 if fresh else runner.epoch)
        if fresh and self.at_start:
            self._measure(runner, epoch=0)

    def after_train_epoch(self, runner: Runner) -> None:
        """Measures every ``interval`` epochs and after the last one."""
        if self.loaders is not None and (
            self.every_n_epochs(runner, self.interval) or self.is_last_train_epoch(runner)
        ):
            self._measure(runner, epoch=runner.epoch + 1)

    def _check_pipelines(self) -> None:
        """Raises UsageError for a transform that cannot be built: a mistake, where images without classes are none."""
        for name, config in self.dataset_configs.items():
            for number, step in enumerate(config.get('pipeline') or ()):
                if not isinstance(step, dict):
                    continue
                try:
                    with build_guard():
                        TRANSFORMS.build(copy.deepcopy(step))
                except UsageError as error:
                    raise UsageError(f'KNNHook.{name}_dataset.pipeline[{number}]: {error}') from error

    def _dataset(self, name: str) -> Dataset:
        dataset = DATASETS.build(self.dataset_configs[name])
        if name == 'train' and self.max_train is not None and self.max_train < len(dataset):
            chosen = np.linspace(0, len(dataset) - 1, self.max_train).round().astype(int)
            return Subset(dataset, chosen.tolist())
        return dataset

    def _measure(self, runner: Runner, epoch: int) -> None:
        """Computes, logs and records the accuracies after ``epoch`` epochs, and keeps the checkpoint if it is best."""
        assert self.loaders is not None
        model: Any = unwrapped(runner.model)
        dtype = self._cast_dtype(runner.optim_wrapper)
        with undisturbed_randomness():
            accuracy = self.accuracy(model, epoch, dtype)
        k = min(self.headline_k, max(self.ks))
        headline = {branch: values[f'k{k}_top1'] for branch, values in accuracy.items()}
        scalars = {f'knn/{branch}_{name}': value for branch, of in accuracy.items() for name, value in of.items()}
        for name, value in scalars.items():
            runner.message_hub.update_scalar(name, value)
        runner.visualizer.add_scalars(scalars, step=epoch)

        state = dict(runner.message_hub.get_info(STATE) or {})
        if epoch == 0:
            state['start'] = headline
            state['start_name'] = 'start' if loaded_from(runner) else 'random init'
        runner.logger.info(self._line(epoch, headline, k, state), extra=ON_SCREEN)
        judged = self.best_branch if self.best_branch in headline else next(iter(headline))
        best = epoch > 0 and (state.get('best') is None or headline[judged] > state['best'])
        if best:
            state.update(best=headline[judged], best_epoch=epoch)
        runner.message_hub.update_info(STATE, state)
        record = {'epoch': epoch, 'iter': 0 if epoch == 0 else runner.iter, 'k': k, 'precision': precision_name(dtype)}
        record['branches'] = accuracy
        if dist.is_main_process():
            self._lines(runner).put(record)
        if best and self.save_best:
            runner.save_checkpoint(
                runner.work_dir, 'best_knn.pth', meta={'knn': {'branch': judged, 'k': k, 'top1': headline[judged]}}
            )

    def _cast_dtype(self, wrapper: Any) -> torch.dtype | None:
        """The type of the features' forward pass; None for float32."""
        same = self.precision == 'same' and isinstance(wrapper, DistillationOptimWrapper)
        return wrapper.cast_dtype if same else None

    def accuracy(self, model: nn.Module, epoch: int, dtype: torch.dtype | None = None) -> dict[str, dict[str, float]]:
        """k-NN accuracies in percent by branch and name such as ``k20_top1``, identical on every rank.

        Args:
            model: whose branches are measured.
            epoch: for the line of the progress.
            dtype: of matrix products, by autocast; None for float32. Features and similarities are in float32.
        """
        assert self.loaders is not None
        encoders = {name: PooledEncoder(backbone) for name, backbone in interface_of(model).branches().items()}
        device = next(model.parameters()).device
        with torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
            banks = {
                name: extract_features(encoders, loader, device, model.data_preprocessor, f'k-NN epoch {epoch}, {name}')  # type: ignore[arg-type]
                for name, loader in self.loaders.items()
            }
        # Only rank 0 searches neighbors, and broadcasts the result.
        results: list[Any] = [None]
        if dist.is_main_process():
            results[0] = {
                branch: knn_accuracy(
                    banks['train'][branch], banks['val'][branch], self.ks, self.temperature, device=device
                )
                for branch in encoders
            }
        dist.broadcast_object_list(results)
        return results[0]

    @staticmethod
    def _line(epoch: int, headline: dict[str, float], k: int, state: dict) -> str:
        numbers = ', '.join(f'{branch} {value:.1f}' for branch, value in headline.items())
        detail = f'k={k}'
        if epoch > 0 and state.get('start'):
            starts = sorted({f'{value:.1f}' for value in state['start'].values()})
            detail += f'; {state["start_name"]} {" / ".join(starts)}'
        if epoch == 0:
            detail += f'; {state["start_name"]}'
        return f'k-NN epoch {epoch}: {numbers} ({detail})'

    @staticmethod
    def _lines(runner: Runner) -> EpochLines:
        return EpochLines(Path(runner.work_dir) / 'knn.jsonl')
