"""Selects the structure adapter of a backbone by its class."""

from __future__ import annotations

from mmpretrain.models.backbones import BEiTViT, SwinTransformer, VisionTransformer
from torch import nn

from mstkit.errors import UsageError
from mstkit.networks.backbone_structure import BackboneStructure, MmpretrainSwin, MmpretrainViT
from mstkit.networks.timm_structure import read_timm_structure


def read_structure(backbone: nn.Module) -> BackboneStructure:
    """Returns the structure adapter of a backbone.

    Raises:
        UsageError: neither a ViT nor a Swin, or an attention module that is not supported.
    """
    if isinstance(backbone, VisionTransformer | BEiTViT):
        return MmpretrainViT(backbone)
    if isinstance(backbone, SwinTransformer):
        return MmpretrainSwin(backbone)
    found = read_timm_structure(backbone)
    if found is not None:
        return found
    raise UsageError(
        f'{type(backbone).__name__} of {type(backbone).__module__} is not a supported ViT or Swin: use '
        'a backbone of mstkit, a VisionTransformer, BEiTViT or SwinTransformer of mmpretrain, or a VisionTransformer '
        'or SwinTransformer of timm.'
    )
