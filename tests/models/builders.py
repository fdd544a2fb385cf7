"""Small networks for tests: real classes, few channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mstkit.models import Pretrainer
from mstkit.registry import MODELS

TINY = dict(embed_dims=48, num_layers=3, num_heads=3, feedforward_channels=96)
VIT: dict[str, Any] = dict(type='MaskedVisionTransformer', arch=TINY, img_size=32, patch_size=8)
SWIN: dict[str, Any] = dict(
    type='MaskedSwinTransformer',
    arch=dict(embed_dims=24, depths=[1, 1, 2, 2], num_heads=[1, 2, 3, 6]),
    img_size=224,
    drop_path_rate=0.0,
)
NECK: dict[str, Any] = dict(type='DINONeck', out_dim=32, hidden_dim=24, bottleneck_dim=16)
BACKBONES = {'vit': VIT, 'swin': SWIN}
# For tests that take any grid of patches: 4x4 in both, in a third of the time that 224 px take.
SMALL_BACKBONES = {'vit': VIT, 'small swin': {**SWIN, 'img_size': 128, 'window_size': 4}}
SIZES = {'vit': (32, 16), 'swin': (224, 96), 'small swin': (128, 64)}


def mst(network: str = 'vit', **parts: Any) -> Pretrainer:
    """An initialized MST model in training mode; ``parts`` replace those of the default config, ... leaves one out."""
    config: dict[str, Any] = dict(
        type='MSTAlgorithm',
        backbone=BACKBONES[network],
        neck=dict(NECK),
        head=dict(type='DINOHead'),
        masker=dict(type='AttentionGuidedMasker', num=2, prob=0.5),
        decoder=dict(type='CNNImageDecoder', channels=8),
        teacher=dict(momentum=0.9),
        data_preprocessor=dict(mean=[127.5] * 3, std=[64.0] * 3),
    )
    config.update(parts)
    model = MODELS.build({name: part for name, part in config.items() if part is not ...})
    model.init_weights()
    model.train()
    return model


def total(losses: Mapping[str, Tensor]) -> Tensor:
    """What a step follows back: the sum of a model's losses."""
    return torch.stack(list(losses.values())).sum()


def gradient_of(tensor: Tensor) -> Tensor:
    """The gradient that reached a tensor."""
    assert tensor.grad is not None
    return tensor.grad


def part_of(parameter: str) -> str:
    """Of which part of a model it is: 'backbone', 'teacher', or 'ce.neck' of the objective 'ce'."""
    first, *rest = parameter.split('.')
    return '.'.join(rest[:2]) if first == 'objectives' else first


def views(backbone: str = 'vit', batch: int = 2, local: int = 2, seed: int = 0) -> list[Tensor]:
    """Two global and some local views of random images."""
    generator = torch.Generator().manual_seed(seed)
    big, small = SIZES[backbone]
    sizes = [big, big] + [small] * local
    return [torch.randn(batch, 3, size, size, generator=generator) for size in sizes]
