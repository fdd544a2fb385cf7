"""What five seeded steps of every kind of method come to: python -m tests.engine.same_numbers writes it down anew.

Speed may not change what is trained. The numbers in same_numbers.json were made before anything was made faster.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import nn

import mstkit  # noqa: F401  (registers)
from mstkit.registry import MODELS
from mstkit.structures import Progress

ROOT = Path(__file__).parents[2]
WRITTEN = Path(__file__).with_suffix('.json')
STEPS, BATCH = 5, 6
CASES = (
    'dino/dino_vit-tiny_folder',
    'mst/mst_vit-tiny_folder',
    'ibot/ibot_vit-tiny_folder',
    'attmask/attmask-high_vit-tiny_folder',
    'moby/moby_vit-tiny_folder',
    'dino/dino_swin-t_100e',
)


def small(case: str) -> Config:
    """The config with few channels and in float32; stochastic depth stays, since it draws."""
    config = Config.fromfile(ROOT / 'configs' / f'{case}.py')
    backbone = config.model.backbone
    if backbone.type == 'MaskedSwinTransformer':
        backbone.arch = dict(embed_dims=24, depths=[1, 1, 2, 1], num_heads=[1, 2, 3, 6])
    else:
        backbone.arch = dict(embed_dims=48, num_layers=3, num_heads=3, feedforward_channels=96)
    backbone.drop_path_rate = 0.2
    config.optim_wrapper.precision = 'fp32'
    config.optim_wrapper.freeze_last_layer_epochs = 0
    return config


def sides(case: str) -> tuple[int, int]:
    """Of the global and the local views."""
    return (224, 96) if 'swin' in case else (64, 32)


def trained(case: str, before_step: Callable[[int, nn.Module], None] = lambda step, model: None) -> dict[str, list]:
    """Losses of each step, and where the weights are afterwards.

    Args:
        case: one of :data:`CASES`.
        before_step: called with the number of the step and the model.

    Returns:
        ``loss`` per step; ``student`` and ``teacher``: for each, the product of all weights with fixed random numbers,
        by root of their count.
    """
    config = small(case)
    torch.manual_seed(3)
    model = MODELS.build(config.model)
    model.init_weights()
    model.train()
    with DefaultScope.overwrite_default_scope('mstkit'):
        wrapper = build_optim_wrapper(model, config.optim_wrapper)
    wrapper.initialize_count_status(model, 0, STEPS)
    for group in wrapper.optimizer.param_groups:
        group['lr'], group['eps'] = 1e-3, 1e-3  # where a gradient is rounding alone, AdamW would make a step of it
    generator = torch.Generator().manual_seed(4)
    large, little = sides(case)
    shape = [large] * 2 + ([] if 'moby' in case else [little] * 3)
    losses = []
    for step in range(STEPS):
        views = [torch.randint(256, (BATCH, 3, s, s), generator=generator, dtype=torch.uint8) for s in shape]
        progress = Progress(step, STEPS, STEPS, 5, step)
        torch.manual_seed(100 + step)
        before_step(step, model)
        model.set_progress(progress)
        wrapper.set_progress(progress)
        logged = model.train_step(dict(inputs=views, data_samples=None), optim_wrapper=wrapper)
        model.after_step()
        losses.append(logged['loss'].item())
    return dict(
        loss=losses,
        student=[_place(dict(model.named_parameters()), lambda name: not name.startswith('teacher.'))],
        teacher=[_place(dict(model.named_parameters()), lambda name: name.startswith('teacher.'))],
    )


def _place(parameters: dict[str, torch.Tensor], wanted) -> float:
    flat = torch.cat([parameters[name].detach().flatten() for name in sorted(parameters) if wanted(name)]).double()
    direction = torch.randn(len(flat), generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    return float(flat @ direction / len(flat) ** 0.5)


if __name__ == '__main__':
    torch.set_num_threads(1)
    WRITTEN.write_text(json.dumps({case: trained(case) for case in CASES}, indent=1) + '\n')
