"""One of our configs, trained for a budget of time: the runner's steps, with schedules that follow the clock."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import FUNCTIONS, DefaultScope
from mmengine.runner import set_random_seed
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler

from contest.learner import Learner
from contest.our_step import PRECISIONS, configured
from mstkit.engine.checkpoints.checkpointing import save
from mstkit.engine.parallel.cpu_settings import prepare_as
from mstkit.errors import UsageError
from mstkit.registry import DATASETS, MODELS, PARAM_SCHEDULERS
from mstkit.structures import Progress

POINTS = 1000  # of a schedule


class OurLearner(Learner):
    """A pre-training config on a folder.

    Args:
        config: file of the config.
        options: overrides by dotted path.
        data_root: folder of the training images, or of its splits.
        seed: of the run.
        workers: of the loader.
        device: of the step.
        dtype: float32, bfloat16 or float16.
    """

    def __init__(
        self, config: str, options: dict[str, Any], data_root: str, seed: int, workers: int, device: str, dtype: str
    ) -> None:
        cfg = configured(config, options)
        cfg.optim_wrapper.precision = PRECISIONS[dtype]
        self.device = torch.device(device)
        self.config = cfg
        prepare_as(cfg)
        set_random_seed(seed)
        self.seed, self.workers = seed, workers
        self.loader = cfg.train_dataloader
        self.batch = self.loader.batch_size
        self.images = DATASETS.build(dict(self.loader.dataset, data_root=data_root))
        self.model = MODELS.build(cfg.model)
        self.model.init_weights()
        self.model.to(self.device).train()
        with DefaultScope.overwrite_default_scope('mstkit'):
            self.wrapper = build_optim_wrapper(self.model, cfg.optim_wrapper)
        self.wrapper.initialize_count_status(self.model, 0, POINTS)
        self.epochs = cfg.train_cfg.max_epochs
        self.bases = [group['lr'] for group in self.wrapper.optimizer.param_groups]
        self.factors = learning_rate_factors(list(cfg.param_scheduler), self.epochs)
        self.steps = 0

    def batches(self) -> Iterator[Any]:
        """See :meth:`Learner.batches`; drawn as the config's loader draws them."""
        collate = self.loader.collate_fn
        return iter(
            DataLoader(
                self.images,
                self.batch,
                sampler=EndlessShuffle(len(self.images), self.seed),
                num_workers=self.workers,
                collate_fn=FUNCTIONS.get(collate['type'] if isinstance(collate, dict) else collate),
                drop_last=True,
                persistent_workers=self.workers > 0,
            )
        )

    def step(self, batch: Any, share: float) -> Tensor:
        """See :meth:`Learner.step`."""
        point = min(int(share * POINTS), POINTS - 1)
        for group, base in zip(self.wrapper.optimizer.param_groups, self.bases, strict=True):
            group['lr'] = base * self.factors[point]
        progress = Progress(point, POINTS, max(1, POINTS // self.epochs), self.seed, self.steps)
        self.model.set_progress(progress)
        self.wrapper.set_progress(progress)
        losses = self.model.train_step(batch, optim_wrapper=self.wrapper)
        self.model.after_step()
        self.steps += 1
        return losses['loss'].detach()

    def networks(self) -> dict[str, nn.Module]:
        """See :meth:`Learner.networks`: the student and, where there is one, its teacher."""
        found: dict[str, nn.Module] = dict(student=Pooled(self.model.backbone))
        if self.model.teacher is not None:
            found['teacher'] = Pooled(self.model.teacher.backbone)
        return found

    def save(self, path: str) -> None:
        """Writes the model with its config, as our other commands read it."""
        meta = dict(cfg=self.config.pretty_text, epoch=0, iter=self.steps)
        save(dict(meta=meta, state_dict=self.model.state_dict()), path)


class Pooled(nn.Module):
    """What a backbone of ours pools, (B, C): the class token after the final norm, in MAE the mean of the patches."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> Tensor:
        """Of normalized images (B, 3, S, S)."""
        out = self.backbone(images)[-1]
        return out[:, 0] if out.dim() == 3 else out


class EndlessShuffle(Sampler):
    """All images in a new order, pass after pass."""

    def __init__(self, images: int, seed: int) -> None:
        self.images = images
        self.generator = torch.Generator().manual_seed(seed)

    def __iter__(self) -> Iterator[int]:
        while True:
            yield from torch.randperm(self.images, generator=self.generator).tolist()


def learning_rate_factors(schedulers: list[dict[str, Any]], epochs: int) -> list[float]:
    """The learning rate of a config as a share of its highest, at evenly spaced points of the run.

    Args:
        schedulers: the config's ``param_scheduler``.
        epochs: of the config.

    Raises:
        UsageError: a schedule of something else than the learning rate.
    """
    parameter = nn.Parameter(torch.zeros(1))
    base = 1e-3
    optimizer = torch.optim.SGD([parameter], lr=base)
    length = max(1, POINTS // epochs)
    built = []
    for settings in schedulers:
        kind = PARAM_SCHEDULERS.get(settings['type'])
        if not settings['type'].endswith('LR'):
            raise UsageError(f'{settings["type"]} is no schedule of the learning rate: this benchmark does not know it')
        given = {key: value for key, value in settings.items() if key not in ('type', 'convert_to_iter_based')}
        built.append(kind.build_iter_from_epoch(optimizer=optimizer, epoch_length=length, **given))
    factors = []
    for _ in range(POINTS):
        factors.append(optimizer.param_groups[0]['lr'] / base)
        optimizer.step()
        for scheduler in built:
            scheduler.step()
    return factors
