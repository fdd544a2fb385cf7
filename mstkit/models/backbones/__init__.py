from mstkit.models.backbones.masked_backbone import MaskedBackbone, Read, expand_mask
from mstkit.models.backbones.masked_swin import MaskedSwinTransformer
from mstkit.models.backbones.masked_vit import MaskedVisionTransformer

__all__ = ['MaskedBackbone', 'MaskedSwinTransformer', 'MaskedVisionTransformer', 'Read', 'expand_mask']
