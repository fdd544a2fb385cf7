"""Small networks of every kind that can be opened, with weights that make attention far from uniform."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from mmengine.config import Config
from timm.models.swin_transformer import SwinTransformer as TimmSwin
from timm.models.vision_transformer import VisionTransformer as TimmViT
from torch import Tensor, nn

from mstkit.networks import Network
from mstkit.registry import MODELS
from tests.models.builders import TINY

VIT = dict(arch=TINY, img_size=32, patch_size=8)
SWIN: dict[str, Any] = dict(
    arch=dict(embed_dims=24, depths=[2, 1, 2, 2], num_heads=[1, 2, 3, 6]), img_size=224, drop_path_rate=0.0
)
CONFIG: dict[str, Any] = dict(
    model=dict(
        type='MSTAlgorithm',
        backbone=dict(type='MaskedVisionTransformer', **VIT),
        data_preprocessor=dict(type='SelfSupDataPreprocessor', mean=[120.0, 110.0, 100.0], std=[60.0, 50.0, 40.0]),
    ),
    default_hooks=dict(
        knn=dict(
            type='KNNHook',
            val_dataset=dict(type='ImageFolder', pipeline=[dict(type='CenterView', resize=40, crop=32)]),
        )
    ),
)


def build(kind: str, **arguments: Any) -> Callable[[], nn.Module]:
    return lambda: MODELS.build(dict(type=kind, **arguments))


def timm_vit(**arguments: Any) -> Callable[[], nn.Module]:
    sizes = dict(img_size=32, patch_size=8, embed_dim=24, depth=3, num_heads=3, num_classes=0)
    return lambda: TimmViT(**{**sizes, **arguments})


def timm_swin(size: int) -> Callable[[], nn.Module]:
    arch = dict(embed_dim=24, depths=(2, 1, 2, 2), num_heads=(1, 2, 3, 6), num_classes=0)
    return lambda: TimmSwin(img_size=size, **arch)


# By name: how it is built and the sizes of images that it is tried with.
VITS: dict[str, tuple[Callable[[], nn.Module], tuple[tuple[int, int], ...]]] = {
    'mstkit ViT': (build('MaskedVisionTransformer', **VIT), ((32, 32), (24, 44))),
    'mmpretrain ViT': (build('mmpretrain.VisionTransformer', **VIT), ((32, 32),)),
    'mmpretrain ViT without class token': (
        build('mmpretrain.VisionTransformer', **VIT, with_cls_token=False, out_type='featmap'),
        ((32, 32),),
    ),
    'mmpretrain ViT of patches': (
        build('mmpretrain.VisionTransformer', **VIT, out_type='avg_featmap', final_norm=False),
        ((32, 32),),
    ),
    'mmpretrain distilled ViT': (build('mmpretrain.DistilledVisionTransformer', **VIT), ((32, 32),)),
    'mmpretrain MAE': (build('mmpretrain.MAEViT', arch='deit-tiny', img_size=32, patch_size=8), ((32, 32),)),
    'mmpretrain BEiT': (build('mmpretrain.BEiTViT', **VIT), ((32, 32),)),
    'mmpretrain BEiT with one bias': (
        build('mmpretrain.BEiTViT', **VIT, use_rel_pos_bias=False, use_shared_rel_pos_bias=True),
        ((32, 32),),
    ),
    'timm ViT': (lambda: timm.create_model('vit_tiny_patch16_224', img_size=64, num_classes=0), ((64, 64),)),
    'mstkit ViT with registers': (build('MaskedVisionTransformer', **VIT, num_registers=3), ((32, 32), (24, 44))),
    'mstkit ViT of registers and patches': (
        build('MaskedVisionTransformer', **VIT, num_registers=2, with_cls_token=False, out_type='featmap'),
        ((32, 32),),
    ),
    'timm ViT with registers': (timm_vit(reg_tokens=2, qk_norm=True), ((32, 32),)),
    'timm ViT of registers and patches': (timm_vit(reg_tokens=2, class_token=False, global_pool='avg'), ((32, 32),)),
    'timm ViT of patches': (timm_vit(class_token=False, global_pool='avg'), ((32, 32),)),
}
# At 224 px the maps are 56, 28, 14 and 7 tokens wide; at 96 px 24, 12, 6 and 3, all of which a window of 7 pads.
SWINS: dict[str, tuple[Callable[[], nn.Module], tuple[tuple[int, int], ...]]] = {
    'mstkit Swin': (build('MaskedSwinTransformer', **SWIN), ((224, 224), (96, 128))),
    'mmpretrain Swin': (build('mmpretrain.SwinTransformer', **SWIN), ((224, 224),)),
    'mmpretrain padding Swin': (build('mmpretrain.SwinTransformer', **SWIN, pad_small_map=True), ((96, 128),)),
    'timm Swin': (timm_swin(96), ((96, 96),)),
    'timm larger Swin': (timm_swin(224), ((224, 224),)),
}
NETWORKS = {**VITS, **SWINS}
CASES = [(name, size) for name, (_, sizes) in NETWORKS.items() for size in sizes]


def network(name: str) -> Network:
    """One of the above, the same for every call."""
    torch.manual_seed(0)
    backbone = NETWORKS[name][0]()
    sharpen(backbone)
    return Network(backbone, name, 32, mean=(0.0,) * 3, std=(1.0,) * 3)


def sharpen(module: nn.Module) -> None:
    """Weights with which attention and norms differ from what an initialization makes them."""
    generator = torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        spread = 1.5 * parameter.shape[-1] ** -0.5 if parameter.ndim == 2 else 0.2
        noise = spread * torch.randn(parameter.shape, generator=generator)
        parameter.data = noise + 1 if parameter.ndim == 1 else noise


def toy_images(size: tuple[int, int] = (32, 32), count: int = 2) -> Tensor:
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(2))


def write_checkpoint(path: Path, config: dict[str, Any] | None = None, branches: tuple[str, ...] = ('', 'teacher.')):
    """A checkpoint as a pre-training writes it; the teacher's weights are the student's and a bit."""
    content = CONFIG if config is None else config
    torch.manual_seed(0)
    backbone = MODELS.build(content['model']['backbone'])
    state = {
        f'{branch}backbone.{key}': value + index
        for index, branch in enumerate(branches)
        for key, value in backbone.state_dict().items()
    }
    text = Config(content).pretty_text
    torch.save(dict(meta=dict(cfg=text), state_dict=state), path)
    return path
