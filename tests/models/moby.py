"""A small MoBY for tests, and its iterations."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mstkit.models import MoBY
from mstkit.registry import MODELS
from mstkit.structures import Progress
from tests.models.builders import SMALL_BACKBONES, views

STEPS = 10


def mlp(norm: str = 'BN1d') -> dict[str, Any]:
    return dict(
        type='NonLinearNeck',
        hid_channels=24,
        out_channels=16,
        with_bias=True,
        with_last_bias=True,
        with_last_bn=False,
        with_avg_pool=False,
        norm_cfg=dict(type=norm),
    )


def moby(network: str = 'vit', norm: str = 'BN1d', **parts: Any) -> MoBY:
    """An initialized small MoBY in training mode."""
    torch.manual_seed(7)
    config: dict[str, Any] = dict(
        type='MoBY',
        backbone=SMALL_BACKBONES[network],
        neck=mlp(norm),
        predictor=mlp(norm),
        head=dict(type='MoBYHead', queue_size=12),
        teacher=dict(momentum=0.9),
        data_preprocessor=dict(mean=[127.5] * 3, std=[64.0] * 3),
    )
    config.update(parts)
    model = MODELS.build(config)
    model.init_weights()
    model.train()
    return model


def toy_images(seed: int = 0, network: str = 'vit', batch: int = 4) -> list[Tensor]:
    return views(network, batch=batch, local=0, seed=seed)


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05, momentum=0.9)


def iterate(model, optimizer, iteration: int, accumulate: int = 1, inputs: list[Tensor] | None = None) -> Tensor:
    """One iteration; the optimizer steps at the end of each window."""
    model.set_progress(Progress(iteration // accumulate, STEPS, 5, rank_seed=1, iteration=iteration))
    (loss,) = model.loss(inputs or toy_images(seed=iteration)).values()
    (loss / accumulate).backward()
    if (iteration + 1) % accumulate == 0:
        optimizer.step()
        optimizer.zero_grad()
        model.after_step()
    return loss.detach()


def followed_weights(model: MoBY, of: nn.Module) -> dict[str, Tensor]:
    """Of the parts that the teacher follows: the student's (``of`` is the model), or the teacher's own."""
    parts = {name: part if of is model else getattr(of, name) for name, part in model.followed().items()}
    return {f'{name}.{key}': p.detach().clone() for name, part in parts.items() for key, p in part.named_parameters()}
