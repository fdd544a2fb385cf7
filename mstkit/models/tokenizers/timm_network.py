"""A ViT or Swin of timm as a part of a tokenizer, built from a config that names it."""

from __future__ import annotations

from typing import Any

import timm
from torch import Tensor, nn

from mstkit.errors import UsageError, nearest
from mstkit.registry import MODELS
from mstkit.structures import TokenOutput
from mstkit.utils.checks import check_text


@MODELS.register_module()
class TimmNetwork(nn.Module):
    """The patch tokens of a network of timm, after its final norm; random until weights are loaded.

    Its tensors have timm's names. mmpretrain's ``TIMMBackbone`` may download; this one builds what timm has a function
    for, and nothing else.

    Args:
        arch: timm's name of a ViT or a Swin, such as 'vit_small_patch16_224'.

    Raises:
        UsageError: timm has no such network, or it gives no patch tokens.
    """

    def __init__(self, arch: str) -> None:
        super().__init__()
        if not timm.is_model(check_text('TimmNetwork.arch', arch)):
            meant = nearest(arch, timm.list_models())
            raise UsageError(f'TimmNetwork.arch is {arch!r}: timm has no such model.{meant}')
        self.network: Any = timm.create_model(arch, pretrained=False, num_classes=0)
        if not hasattr(self.network, 'forward_features'):  # timm's networks have no common class
            raise UsageError(f'TimmNetwork.arch is {arch!r}, which gives no patch tokens: take a ViT or a Swin')

    def forward_tokens(self, images: Tensor) -> TokenOutput:
        """The tokens of images (B, 3, H, W), normalized, of the size that the network is built for."""
        found = self.network.forward_features(images)
        if not isinstance(found, Tensor) or found.ndim not in (3, 4):
            raise UsageError(f'TimmNetwork: {type(self.network).__name__} gives no patch tokens: take a ViT or a Swin')
        if found.ndim == 4:  # a Swin's map, (B, h, w, C)
            return TokenOutput(found.flatten(1, 2), found.mean(dim=(1, 2)), (found.shape[1], found.shape[2]))
        patches = found[:, self.network.num_prefix_tokens :]
        height, width = self.network.patch_embed.dynamic_feat_size(images.shape[-2:])
        return TokenOutput(patches, found[:, 0], (height, width))
