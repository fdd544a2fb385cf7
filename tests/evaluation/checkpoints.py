"""A small checkpoint with two branches, as a training writes it."""

from __future__ import annotations

from pathlib import Path

import torch
from mmengine.config import Config

from mstkit.registry import MODELS

BACKBONE = dict(
    type='MaskedVisionTransformer',
    arch=dict(embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=48),
    img_size=32,
    patch_size=8,
)
NORMALIZATION = dict(type='SelfSupDataPreprocessor', mean=[120.0] * 3, std=[60.0] * 3)
PIPELINE = [dict(type='LoadRGB'), dict(type='CenterView', resize=36, crop=32), dict(type='PackViews')]


def save_checkpoint(path: Path, seed: int = 0) -> Path:
    """Random weights, another draw for each branch."""
    torch.manual_seed(seed)
    state = {}
    for prefix in ('backbone.', 'teacher.backbone.'):
        backbone = MODELS.build(BACKBONE)
        for parameter in backbone.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        state.update({prefix + key: value for key, value in backbone.state_dict().items()})
    state['neck.weight'] = torch.zeros(3)
    hook = dict(type='KNNHook', val_dataset=dict(type='ImageFolder', pipeline=PIPELINE))
    config = Config(dict(model=dict(backbone=BACKBONE, data_preprocessor=NORMALIZATION), custom_hooks=[hook]))
    torch.save({'meta': {'cfg': config.pretty_text}, 'state_dict': state}, path)
    return path
