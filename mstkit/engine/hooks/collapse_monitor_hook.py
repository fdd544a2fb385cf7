"""Monitors a self-distillation run for collapse, and logs warnings with advice."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from mmengine import dist
from mmengine.runner import Runner
from torch import Tensor

from mstkit.engine.hooks.colored_views import first_view, join, pieces
from mstkit.engine.hooks.hook_memory import RememberingHook
from mstkit.engine.optim.param_schedules import base_lr, config_lr
from mstkit.engine.parallel.distributed import unwrapped
from mstkit.evaluation.features import PooledEncoder
from mstkit.evaluation.protocols.collapse import CollapseStatistics, diagnose, effective_rank, feature_deviation
from mstkit.models import interface_of
from mstkit.registry import HOOKS
from mstkit.utils.checks import check_count
from mstkit.utils.json_lines import EpochLines
from mstkit.utils.undisturbed import evaluation_mode, undisturbed_randomness

# How the statistics start that are logged beside those of the features: shares of hidden and thrown patches, whether a
# contrast or a ranking is right, and what learned masks are like.
FURTHER = ('hidden_fraction', 'thrown_fraction', 'contrast_top1', 'rank_accuracy', 'mask_')


@HOOKS.register_module()
class CollapseMonitorHook(RememberingHook):
    """Logs teacher entropy, KL, feature deviation and effective rank once an epoch, and warns of collapse.

    Entropy and KL are means over the epoch of ``model.last_statistics()``, summed on the device, so that no iteration
    waits for the host. Deviation and rank are computed on the pooled features of the first view of the epoch's last
    images, over all ranks. The advice in a warning depends on the highest learning rate so far. Scalars go to the
    visualizer (``collapse/...``) and to ``work_dir/collapse.jsonl``. A checkpoint inside an epoch holds the sums and
    images so far (at most ``num_images``, in the epoch's last steps only), so that a resumed run writes the same
    record.

    Args:
        num_images: number of images whose features are computed, over all ranks.
        branch: one of ``model.branches()``; the first one if the model does not have it.
        grace_epochs: no warning in the first epochs, where a loss near ln(out_dim) is normal; by default a tenth of
            the run, at least 1 and at most 10.
        loss_key: the loss term that is compared with ln(out_dim) if the model gives neither entropy nor KL.
        batch_size: images per forward pass.
    """

    def __init__(
        self,
        num_images: int = 512,
        branch: str = 'teacher',
        grace_epochs: int | None = None,
        loss_key: str = 'loss_ce',
        batch_size: int = 64,
    ) -> None:
        check_count('CollapseMonitorHook.num_images', num_images, 2)
        check_count('CollapseMonitorHook.batch_size', batch_size, 1)
        if grace_epochs is not None:
            check_count('CollapseMonitorHook.grace_epochs', grace_epochs, 0)
        super().__init__()
        self.num_images = num_images
        self.branch = branch
        self.grace_epochs = grace_epochs
        self.loss_key = loss_key
        self.batch_size = batch_size
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.views: list[dict[str, Any]] = []
        self._recalled = False
        self.lr, self.peak_lr = 0.0, 0.0

    def before_train(self, runner: Runner) -> None:
        """Empties ``collapse.jsonl``; on a resumed run, keeps its earlier epochs."""
        super().before_train(runner)
        if dist.is_main_process():
            self._lines(runner).keep_until(-1 if runner.iter == 0 else runner.epoch)
            self.peak_lr = max((record.get('lr', 0.0) for record in self._lines(runner).read()), default=0.0)

    def before_train_epoch(self, runner: Runner) -> None:
        """Clears the sums of the last epoch, except those that :meth:`recall` restored inside an epoch."""
        if not self._recalled:
            self.sums, self.counts, self.views, self.lr = {}, {}, [], 0.0
        self._recalled = False

    def memory(self, inside_epoch: bool) -> dict[str, Any] | None:
        """Sums, images and learning rate of the current epoch; None at its end."""
        if not inside_epoch:
            return None
        views = [{name: _on_cpu(value) for name, value in join(self.views).items()}] if self.views else []
        sums = {name: value.cpu() for name, value in self.sums.items()}
        return dict(sums=sums, counts=dict(self.counts), views=views, lr=self.lr)

    def recall(self, memories: list[Any], rank: int) -> None:
        """Restores the state of this process."""
        own = memories[rank]
        if own is not None:
            self.sums, self.counts, self.views = dict(own['sums']), dict(own['counts']), list(own['views'])
            self.lr = own.get('lr', 0.0)
            self._recalled = True

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Updates the highest learning rate of the epoch."""
        self.lr = max(self.lr, base_lr(runner.optim_wrapper))

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Tensor] | None = None
    ) -> None:
        """Adds the statistics of this step, and keeps the images of the epoch's last steps."""
        statistics = dict(interface_of(unwrapped(runner.model)).last_statistics())
        if outputs and self.loss_key in outputs:
            statistics['cross_entropy'] = torch.as_tensor(outputs[self.loss_key])
        for name, value in statistics.items():
            value = value.detach().float().mean()
            self.sums[name] = self.sums[name] + value if name in self.sums else value.clone()
            self.counts[name] = self.counts.get(name, 0) + 1
        first = first_view(data_batch)
        own_images = math.ceil(self.num_images / dist.get_world_size())
        remaining_steps = len(runner.train_dataloader) - batch_idx - 1
        if remaining_steps * len(first['inputs']) < own_images:
            self.views.append(first)

    def after_train_epoch(self, runner: Runner) -> None:
        """Computes, logs and records the statistics of the epoch, and warns of collapse."""
        self.peak_lr = max(self.peak_lr, self.lr)
        means = self._means()
        features = self._features(runner)
        self.views = []
        enough = len(features) >= 2
        entropy, kl = means.get('teacher_entropy'), means.get('kl')
        # Entropy plus KL is the cross-entropy without the loss term's weight.
        cross_entropy = entropy + kl if entropy is not None and kl is not None else means.get('cross_entropy')
        statistics = CollapseStatistics(
            cross_entropy=cross_entropy,
            teacher_entropy=entropy,
            kl=kl,
            out_dim=interface_of(unwrapped(runner.model)).prototypes,
            feature_deviation=feature_deviation(features) if enough else None,
            effective_rank=effective_rank(features) if enough and bool(torch.isfinite(features).all()) else None,
            peak_lr=self.peak_lr,
            config_lr=config_lr(runner.optim_wrapper),
        )
        epoch = runner.epoch + 1
        not_shown = ('out_dim', 'peak_lr', 'config_lr')
        named = {
            key: value for key, value in statistics._asdict().items() if value is not None and key not in not_shown
        }
        # Logged but not diagnosed.
        named.update((name, mean) for name, mean in means.items() if name.startswith(FURTHER))
        for name, value in named.items():
            runner.message_hub.update_scalar(f'collapse/{name}', value)
        runner.visualizer.add_scalars({f'collapse/{name}': value for name, value in named.items()}, step=epoch)
        numbers = ', '.join(f'{name.replace("_", " ")} {value:.3f}' for name, value in named.items())
        runner.logger.info(f'features epoch {epoch}: {numbers}')
        findings = diagnose(statistics) if epoch > self._grace(runner) else []
        for finding in findings:
            runner.logger.warning(f'epoch {epoch}: {finding}')
        if dist.is_main_process():
            rest = {'num_images': len(features), 'lr': self.lr, 'findings': findings}
            self._lines(runner).put({'epoch': epoch, **named, **rest})

    def _grace(self, runner: Runner) -> int:
        return min(10, max(1, runner.max_epochs // 10)) if self.grace_epochs is None else self.grace_epochs

    def _means(self) -> dict[str, float]:
        """Means of the statistics over the epoch and the ranks; the host waits for the device only here."""
        means = {}
        for name, total in self.sums.items():
            mean = total / self.counts[name]
            dist.all_reduce(mean, op='mean')
            means[name] = float(mean)
        return means

    def _features(self, runner: Runner) -> Tensor:
        """Pooled features (M, D) of the kept images of all ranks, on the CPU; identical on every rank."""
        model = unwrapped(runner.model)
        branches = interface_of(model).branches()
        if not branches:
            return torch.empty(0, 1)
        encoder = PooledEncoder(branches.get(self.branch, next(iter(branches.values()))))
        own_images = math.ceil(self.num_images / dist.get_world_size())
        parts: Iterable[dict[str, Any]] = ()
        if self.views:
            kept = {name: None if value is None else value[-own_images:] for name, value in join(self.views).items()}
            parts = pieces(kept, self.batch_size)
        rows = []
        with torch.no_grad(), evaluation_mode(encoder), undisturbed_randomness():
            for part in parts:
                prepared = model.data_preprocessor(part, False)
                rows.append(encoder(prepared['inputs']).cpu())
        gathered = [part for part in dist.all_gather_object(torch.cat(rows) if rows else None) if part is not None]
        return torch.cat(gathered) if gathered else torch.empty(0, 1)

    @staticmethod
    def _lines(runner: Runner) -> EpochLines:
        return EpochLines(Path(runner.work_dir) / 'collapse.jsonl')


def _on_cpu(value: Any) -> Any:
    return value.cpu() if isinstance(value, Tensor) else value
