"""A model of a few numbers with everything that makes resuming hard: dropout, a teacher, a center, a last layer."""

from __future__ import annotations

import os
import random
import signal
import time
from typing import Any, ClassVar

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.utils.data import Dataset

from mstkit.models import TrainedModel
from mstkit.registry import DATASETS, HOOKS, MODELS
from mstkit.structures import Progress


@DATASETS.register_module(force=True)
class ToyVectors(Dataset):
    """``length`` vectors of 6 numbers; with ``jitter`` some global randomness is added, as foreign transforms do."""

    metainfo: ClassVar[dict] = {}

    def __init__(self, length: int = 16, jitter: bool = False, data_root: str | None = None) -> None:
        self.length, self.jitter = length, jitter

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict:
        vector = torch.randn(6, generator=torch.Generator().manual_seed(int(index)))
        if self.jitter:
            vector = vector + torch.rand(6) + random.random() + np.random.rand()
        return {'inputs': vector, 'index': int(index)}


@MODELS.register_module(force=True)
class ToyDistiller(TrainedModel, BaseModel):
    """Student, teacher and center; ``seen`` keeps what each iteration was told and given."""

    def __init__(self, width: int = 8, dropout: float = 0.2, batch_norm: bool = False) -> None:
        super().__init__()
        body: list[nn.Module] = [nn.Linear(6, width), nn.GELU()]
        if batch_norm:
            body.append(nn.BatchNorm1d(width))
        self.body = nn.Sequential(*body)
        self.last_layer = nn.Linear(width, 4, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer('teacher', torch.zeros(4, width))
        self.register_buffer('center', torch.zeros(4))
        self.seen: list[tuple[Progress, list[int]]] = []
        self.steps = 0
        self.progress: Progress | None = None

    def set_progress(self, progress: Progress) -> None:
        self.progress = progress

    def after_step(self) -> None:
        assert self.progress is not None
        momentum = self.progress.step / self.progress.total_steps
        self.teacher.mul_(momentum).add_(self.last_layer.weight.detach(), alpha=1 - momentum)
        self.steps += 1

    def forward(self, inputs: Tensor, index: Tensor, mode: str = 'tensor') -> dict[str, Tensor]:
        self.seen.append((self.progress, index.tolist()))
        logits = self.last_layer(self.dropout(self.body(inputs))).float()
        target = inputs.sum(dim=1, keepdim=True) * torch.arange(4.0)
        with torch.no_grad():
            self.center.mul_(0.9).add_(logits.mean(dim=0), alpha=0.1)
        return {'loss': (logits - target).square().mean()}


@HOOKS.register_module(force=True)
class KillHook(Hook):
    """Ends the process without any farewell: after iteration ``KILL_AFTER``, or in the middle of saving it.

    ``SIGNALS='6:TERM:1 …'`` sends SIGTERM in iteration 6 on rank 1, ``HANGS='6:1'`` waits there without end.
    """

    priority = 'NORMAL'

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if os.environ.get('KILL_AFTER') == str(runner.iter + 1):
            os.kill(os.getpid(), signal.SIGKILL)
        for word in os.environ.get('SIGNALS', '').split():
            iteration, name, rank = word.split(':')
            if (int(iteration), int(rank)) == (runner.iter + 1, runner.rank):
                os.kill(os.getpid(), signal.Signals[f'SIG{name}'])
        if os.environ.get('HANGS') == f'{runner.iter + 1}:{runner.rank}':
            time.sleep(1e6)

    def before_save_checkpoint(self, runner, checkpoint) -> None:
        if os.environ.get('KILL_WHILE_SAVING') == str(runner.iter):
            os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)


def settings(**changes) -> dict:
    """The config of a toy run: 16 vectors, batch 4, 3 epochs, plain AdamW with a schedule."""
    base = dict(
        model=dict(type='ToyDistiller'),
        train_dataloader=dict(
            batch_size=4,
            num_workers=0,
            drop_last=True,
            dataset=dict(type='ToyVectors'),
            sampler=dict(type='EpochSampler'),
            collate_fn=dict(type='default_collate'),
        ),
        optim_wrapper=dict(
            type='DistillationOptimWrapper',
            precision='fp32',
            optimizer=dict(type='AdamW', lr=0.05, weight_decay=0.04),
            paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
        ),
        param_scheduler=[
            dict(type='LinearLR', start_factor=1e-9, by_epoch=True, begin=0, end=1, convert_to_iter_based=True),
            dict(type='CosineAnnealingLR', eta_min=1e-3, by_epoch=True, begin=1, end=3, convert_to_iter_based=True),
        ],
        train_cfg=dict(by_epoch=True, max_epochs=3),
        default_hooks=dict(
            param_scheduler=dict(type='StepParamSchedulerHook'),
            checkpoint=dict(type='AtomicCheckpointHook', interval=1, max_keep_ckpts=2),
        ),
        custom_hooks=[dict(type='ProgressHook')],
        randomness=dict(seed=0),
        default_scope='mstkit',
        log_level='ERROR',
        auto_scale_lr=dict(base_batch_size=8, enable=False),
    )
    for path, value in changes.items():
        node: Any = base
        *parents, last = path.split('__')
        for parent in parents:
            node = node[int(parent) if parent.isdigit() else parent]
        node[last] = value
    return base
