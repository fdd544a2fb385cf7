"""What five seeded steps of every kind of method come to: python -m tests.engine.same_numbers writes it down anew.

Neither speed nor order may change what is trained. Every number of a model is drawn by the *role* that it plays, so it
does not matter in which order the modules are built or how they are called: only :data:`ROLES` names the parameters of
today, and it is all that has to follow when they are renamed.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import nn

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
WITH_ADAMW = CASES[:4]
# Which part of a method a parameter or a random buffer belongs to, by how its name starts; the longest start decides.
# A teacher starts with the numbers of what it follows. What follows after the start is the part's own name for it.
ROLES = {
    'backbone.': 'backbone',
    'objectives.ce.neck.': 'projection',
    'objectives.contrast.neck.': 'projection',
    'objectives.patch.neck.': 'projection of patches',
    'objectives.contrast.predictor.': 'predictor',
    'objectives.restore.decoder.': 'decoder',
    'mask_token': 'mask token',
    'objectives.contrast.head.queue': 'queue of keys',
    'teacher.backbone.': 'backbone, teacher',
    'teacher.ce_neck.': 'projection, teacher',
    'teacher.contrast_neck.': 'projection, teacher',
    'teacher.patch_neck.': 'projection of patches, teacher',
}
TEACHER = ', teacher'


def roles(model: nn.Module) -> Iterator[tuple[str, str, torch.Tensor]]:
    """Role of the part, the part's own name, and the tensor, of every parameter and every queue."""
    tensors = dict(model.named_parameters()) | {n: b for n, b in model.named_buffers() if 'queue' in n}
    for name, tensor in tensors.items():
        start = max((start for start in ROLES if name.startswith(start)), key=len, default=None)
        assert start is not None, f'{name} plays no role that is known: add it to ROLES'
        yield ROLES[start], name.removeprefix(start), tensor


@torch.no_grad()
def draw(model: nn.Module) -> None:
    """Draws every parameter anew: by how much it leaves 1, for what is built as ones (norms), and 0, for all others."""
    for role, name, tensor in roles(model):
        seed = zlib.crc32(f'{role.removesuffix(TEACHER)}/{name}'.encode())
        built = tensor.mean().round() if tensor.numel() > 1 else torch.zeros(())
        fresh = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(seed)) * 0.05
        tensor.copy_(nn.functional.normalize(fresh, dim=1) if 'queue' in role else fresh + built)


def small(case: str) -> Config:
    """The config with few channels and in float32; stochastic depth stays, since it draws."""
    config = Config.fromfile(ROOT / 'configs' / f'{case}.py')
    backbone = config.model.backbone
    if backbone.type == 'MaskedSwinTransformer':
        backbone.arch = dict(embed_dims=24, depths=[1, 1, 2, 1], num_heads=[1, 2, 3, 6])
    else:
        backbone.arch = dict(embed_dims=48, num_layers=3, num_heads=3, feedforward_channels=96)
    backbone.drop_path_rate = 0.2
    if case in WITH_ADAMW:  # the recipe of when the numbers were written down: the step is compared, not the recipe
        neck = dict(type='DINONeck', out_dim=512, hidden_dim=512, bottleneck_dim=128)
        config.model.neck = dict(neck, batch_norm='global_only') if config.model.type == 'MSTAlgorithm' else neck
        config.model.head.teacher_temp, config.model.teacher.momentum = 0.03, 0.98
        config.model.pop('objectives')
        config.model.pop('patch_neck', None)
        config.optim_wrapper.optimizer = dict(type='AdamW', lr=1e-3, weight_decay=0.04, fused=True)
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
        ``loss`` per step; ``student`` and ``teacher``: for each, the product of all weights, in the order of their
        roles, with fixed random numbers, by root of their count.
    """
    config = small(case)
    model = MODELS.build(config.model)
    model.init_weights()
    draw(model)
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
    parameters = {(role, name): tensor for role, name, tensor in roles(model) if isinstance(tensor, nn.Parameter)}
    teacher = {key for key in parameters if key[0].endswith(TEACHER)}
    return dict(
        loss=losses,
        student=[_place([parameters[key] for key in sorted(parameters.keys() - teacher)])],
        teacher=[_place([parameters[key] for key in sorted(teacher)])],
    )


def _place(parameters: list[nn.Parameter]) -> float:
    flat = torch.cat([parameter.detach().flatten() for parameter in parameters]).double()
    direction = torch.randn(len(flat), generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    return float(flat @ direction / len(flat) ** 0.5)


if __name__ == '__main__':
    torch.set_num_threads(1)
    WRITTEN.write_text(json.dumps({case: trained(case) for case in CASES}, indent=1) + '\n')
