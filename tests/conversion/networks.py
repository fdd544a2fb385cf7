"""Small networks of the real packages with seeded weights, and their files in the layouts that people have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
import transformers
from mmpretrain.models import BEiTViT, SwinTransformer, VisionTransformer
from torch import nn

VIT: dict[str, Any] = dict(img_size=32, patch_size=8, embed_dim=128, depth=2, num_heads=2, num_classes=0)
SWIN: dict[str, Any] = dict(
    img_size=64, embed_dim=24, depths=(1, 1, 2, 1), num_heads=(1, 2, 3, 6), window_size=2, num_classes=0
)
HF: dict[str, Any] = dict(
    hidden_size=128, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8, layer_norm_eps=1e-6
)
FEED = dict(intermediate_size=256)
MM: dict[str, Any] = dict(
    arch=dict(embed_dims=128, num_layers=2, num_heads=2, feedforward_channels=256), img_size=32, patch_size=8
)


def seeded(network: Any) -> Any:
    """Weights as after training: no two alike, norms not at 1 and 0."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    network.eval()
    return network


def timm_vit(**more: Any) -> Callable[[], nn.Module]:
    return lambda: timm.create_model('vit_small_patch16_224', **VIT, mlp_ratio=2, **more)


def timm_beit(**more: Any) -> Callable[[], nn.Module]:
    return lambda: timm.create_model('beit_base_patch16_224', **VIT, mlp_ratio=2, **more)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    'timm vit': timm_vit(),
    'timm vit, no qkv bias': timm_vit(qkv_bias=False),
    'timm vit, registers with positions': timm_vit(reg_tokens=4, init_values=0.1),
    'timm vit, registers without positions': timm_vit(reg_tokens=4, no_embed_class=True),
    'timm vit, pooled patches': timm_vit(global_pool='avg', class_token=False),
    'timm vit, pooled patches, registers': timm_vit(
        global_pool='avg', class_token=False, reg_tokens=4, no_embed_class=True
    ),
    'timm vit, gated': lambda: timm.create_model('vit_giant_patch14_dinov2', **VIT, init_values=0.1, mlp_ratio=4.0),
    'timm beit': timm_beit(),
    'timm beit, shared table': timm_beit(use_rel_pos_bias=False, use_shared_rel_pos_bias=True, global_pool='token'),
    'timm swin': lambda: timm.create_model('swin_tiny_patch4_window7_224', **SWIN),
    'torchvision vit': lambda: torchvision.models.VisionTransformer(32, 8, 2, 2, 128, 256),
    'torchvision swin': lambda: torchvision.models.SwinTransformer([4, 4], 24, [1, 1, 2, 1], [1, 2, 3, 6], [2, 2]),
    'hf ViTModel': lambda: transformers.ViTModel(transformers.ViTConfig(**HF, **FEED)),
    'hf ViTMAEForPreTraining': lambda: transformers.ViTMAEForPreTraining(
        transformers.ViTMAEConfig(
            **HF,
            **FEED,
            decoder_hidden_size=64,
            decoder_num_hidden_layers=1,
            decoder_num_attention_heads=2,
            decoder_intermediate_size=64,
        )
    ),
    'hf Dinov2Model': lambda: transformers.Dinov2Model(transformers.Dinov2Config(**HF, mlp_ratio=2)),
    'hf Dinov2Model, gated': lambda: transformers.Dinov2Model(
        transformers.Dinov2Config(**HF, mlp_ratio=2, use_swiglu_ffn=True)
    ),
    'hf Dinov2WithRegistersModel': lambda: transformers.Dinov2WithRegistersModel(
        transformers.Dinov2WithRegistersConfig(**HF, mlp_ratio=2)
    ),
    'timm dinov3': lambda: timm.create_model('vit_small_patch16_dinov3', **VIT, mlp_ratio=2),
    'timm dinov3, biases': lambda: timm.create_model('vit_small_patch16_dinov3_qkvb', **VIT, mlp_ratio=2),
    'hf DINOv3ViTModel': lambda: transformers.DINOv3ViTModel(
        transformers.DINOv3ViTConfig(**{**HF, 'layer_norm_eps': 1e-5}, **FEED, num_register_tokens=4)
    ),
    'hf BeitModel': lambda: transformers.BeitModel(
        transformers.BeitConfig(**HF, **FEED, use_relative_position_bias=True)
    ),
    'hf BeitModel, shared table': lambda: transformers.BeitModel(
        transformers.BeitConfig(**HF, **FEED, use_shared_relative_position_bias=True, use_mean_pooling=False)
    ),
    'hf SwinModel': lambda: transformers.SwinModel(
        transformers.SwinConfig(
            embed_dim=24, depths=[1, 1, 2, 1], num_heads=[1, 2, 3, 6], window_size=2, image_size=64, patch_size=4
        )
    ),
    'mmpretrain vit': lambda: VisionTransformer(**MM),
    'mmpretrain beit': lambda: BEiTViT(**MM, use_rel_pos_bias=True, layer_scale_init_value=0.1),
    'mmpretrain swin': lambda: SwinTransformer(
        arch=dict(embed_dims=24, depths=[1, 1, 2, 1], num_heads=[1, 2, 3, 6]), img_size=64, window_size=2
    ),
}


def file_of(name: str, folder: Path) -> Path:
    """A file of a network as its library writes it; a folder where that is its way."""
    network = seeded(NETWORKS[name]())
    path = folder / name.replace(' ', '_').replace(',', '')
    if isinstance(network, transformers.PreTrainedModel):
        transformers.utils.logging.disable_progress_bar()
        network.save_pretrained(path)
        return path
    path = path.with_suffix('.pth')
    state = network.state_dict()
    if name.startswith('mmpretrain'):
        state = dict(state_dict={f'backbone.{key}': value for key, value in state.items()}, meta={})
    torch.save(state, path)
    return path
