"""Adapters to the structure of timm's ViT and Swin."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from timm.layers import PatchEmbed, resample_abs_pos_embed
from timm.models.swin_transformer import SwinTransformer, WindowAttention
from timm.models.vision_transformer import Attention, VisionTransformer
from torch import Tensor, nn

from mstkit.networks.backbone_structure import BackboneStructure, Size, instead
from mstkit.networks.network_blocks import Block
from mstkit.utils.position_interpolation import resize_positions


class TimmViT(BackboneStructure):
    """timm's ViT, with or without class token, registers, normalized queries and keys, or a norm after pooling."""

    layout = 'vit'
    attention_types = (Attention,)

    def __init__(self, backbone: Any) -> None:
        self.extra = backbone.num_prefix_tokens
        self.class_token = backbone.cls_token is not None
        super().__init__(backbone, [backbone.blocks])

    def run(self, images: Tensor) -> None:
        backbone, embed = self.backbone, self.backbone.patch_embed
        size = (images.shape[-2], images.shape[-1])
        grid, native = self.grid(size, ()), tuple(embed.grid_size)
        if backbone.dynamic_img_size or backbone.pos_embed is None or size == tuple(embed.img_size):
            backbone.forward_features(images)
            return
        # As timm does in a network that is built for images of any size.
        extra = 0 if backbone.no_embed_class else self.extra
        positions = resample_abs_pos_embed(backbone.pos_embed.detach(), grid, native, num_prefix_tokens=extra)
        resized = nn.Parameter(positions, False)
        with instead((backbone, 'pos_embed', resized), (embed, 'strict_img_size', False)):
            backbone.forward_features(images)

    def grid(self, image: Size, inputs: tuple[Any, ...]) -> Size:
        height, width = self.backbone.patch_embed.dynamic_feat_size(image)
        return height, width

    def stride(self, stage: int) -> float:
        return self.backbone.patch_embed.patch_size[0]

    def positions_at(self, image: Size, offset: float) -> AbstractContextManager[None]:
        backbone, embed, grid = self.backbone, self.backbone.patch_embed, self.grid(image, ())
        native = tuple(embed.grid_size)
        if backbone.pos_embed is None or grid == native:
            return nullcontext()
        extra = 0 if backbone.no_embed_class else self.extra
        resized = resize_positions(backbone.pos_embed.detach(), native, grid, extra, offset=offset)
        return instead((backbone, 'pos_embed', nn.Parameter(resized, False)), (embed, 'grid_size', grid))

    def norm(self, tokens: Tensor) -> Tensor:
        return self.backbone.norm(tokens)

    def pool(self, tokens: Tensor) -> Tensor:
        if self.pools_patches:
            return self.backbone.fc_norm(tokens[:, self.extra :].mean(dim=1))
        return self.backbone.fc_norm(tokens[:, 0])

    @property
    def pools_patches(self) -> bool:
        return self.backbone.cls_token is None or self.backbone.global_pool == 'avg'


class TimmSwin(BackboneStructure):
    """timm's Swin (version 1)."""

    layout = 'swin'
    attention_types = (WindowAttention,)

    def __init__(self, backbone: Any) -> None:
        super().__init__(backbone, [stage.blocks for stage in backbone.layers])

    def run(self, images: Tensor) -> None:
        self.backbone.forward_features(images)

    def tokens(self, output: Tensor) -> Tensor:
        return output.flatten(1, 2)

    def grid(self, image: Size, inputs: tuple[Any, ...]) -> Size:
        height, width = inputs[0].shape[1:3]
        return height, width

    def stride(self, stage: int) -> float:
        patch = self.backbone.patch_embed.patch_size[0]
        merged = sum(not isinstance(one.downsample, nn.Identity) for one in self.backbone.layers[: stage + 1])
        return patch * math.pow(2, merged)

    def window(self, block: Block, shifted: bool) -> tuple[Size, Size, bool]:
        height, width = block.module.window_size  # type: ignore[misc]
        down, right = block.module.shift_size if shifted else (0, 0)  # type: ignore[misc]
        return (height, width), (down, right), False

    def norm(self, tokens: Tensor) -> Tensor:
        return self.backbone.norm(tokens)


def read_timm_structure(backbone: nn.Module) -> BackboneStructure | None:
    """See :func:`mstkit.networks.structure_reading.read_structure`; None if it is no ViT or Swin of timm."""
    if isinstance(backbone, VisionTransformer) and isinstance(backbone.patch_embed, PatchEmbed):
        return TimmViT(backbone)
    return TimmSwin(backbone) if isinstance(backbone, SwinTransformer) else None
