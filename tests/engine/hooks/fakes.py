"""A run that takes a second: a self-distillation model of two linear layers on colored squares."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import torch
from mmengine.dataset import default_collate
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmpretrain.models.utils.data_preprocessor import SelfSupDataPreprocessor
from torch import Tensor

from mstkit.models import TrainedModel
from mstkit.registry import DATASETS
from mstkit.structures import PanelData
from tests.evaluation.fakes import ColorDataset, FakeBackbone

COUNTER = itertools.count()


@DATASETS.register_module(force=True)
class HookColors(ColorDataset):
    """The data set under a name that a config can give."""


class FakeDistillation(TrainedModel, BaseModel):
    """Has all that the hooks may ask a model for."""

    def __init__(self, out_dim: int = 16) -> None:
        super().__init__(SelfSupDataPreprocessor(mean=[120.0] * 3, std=[60.0] * 3))
        self.backbone = FakeBackbone()
        self.teacher = torch.nn.ModuleDict({'backbone': copy.deepcopy(self.backbone)})
        self.teacher.requires_grad_(False)
        self.neck = torch.nn.Linear(6, out_dim)
        self.entropy, self.kl = 1.0, 0.5
        self.break_at: int | None = None
        self.steps = 0
        self.statistics: dict[str, Tensor] = {}

    def forward(self, inputs: list[Tensor], data_samples: Any = None, mode: str = 'loss') -> dict[str, Tensor]:
        self.steps += 1
        loss = self.neck(self.backbone.forward_tokens(inputs[0]).pooled).square().mean()
        self.statistics = {'teacher_entropy': torch.tensor(self.entropy * self.steps), 'kl': torch.tensor(self.kl)}
        if self.steps == self.break_at:
            loss = loss * float('nan')
        return {'loss_ce': loss, 'loss_restore': 0.1 * inputs[0].mean().square()}

    @property
    def prototypes(self) -> int:
        return self.neck.out_features

    def last_statistics(self) -> dict[str, Tensor]:
        return self.statistics

    def branches(self) -> dict[str, torch.nn.Module]:
        return {'student': self.backbone, 'teacher': self.teacher['backbone']}

    def panel(self, images: Tensor) -> PanelData:
        torch.rand(3)  # a careless model
        count = len(images)
        return PanelData(images, torch.rand(count, 2, 2), torch.rand(count, 2, 2) > 0.5, 0.9 * images)


def make_runner(work_dir: Path, hooks: list[dict], epochs: int = 2, resume: bool = False, **kwargs: Any) -> Runner:
    """A Runner of mmengine's with two epochs of three iterations."""
    torch.manual_seed(0)
    return Runner(
        model=kwargs.pop('model', None) or FakeDistillation(),
        work_dir=str(work_dir),
        train_dataloader=dict(
            dataset=ColorDataset(12, views=2),
            batch_size=4,
            sampler=dict(type='DefaultSampler', shuffle=True),
            collate_fn=default_collate,
        ),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper={**(kwargs.pop('wrapper', None) or {}), 'optimizer': dict(type='SGD', lr=0.05)},
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)),
        custom_hooks=hooks,
        experiment_name=f'hooks_{next(COUNTER)}',
        randomness=dict(seed=0),
        default_scope='mstkit',
        resume=resume,
        log_level='INFO',
        **kwargs,
    )


def weights(runner: Runner) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in runner.model.state_dict().items()}


def log_text(runner: Runner) -> str:
    return ''.join(path.read_text() for path in Path(runner.work_dir).glob('*/*.log'))
