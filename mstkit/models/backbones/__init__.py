from mstkit.models.backbones.masked_backbone import MaskedBackbone, expand_mask
from mstkit.models.backbones.masked_swin import MaskedSwinTransformer
from mstkit.models.backbones.masked_vit import MaskedVisionTransformer

__all__ = ['MaskedBackbone', 'MaskedSwinTransformer', 'MaskedVisionTransformer', 'expand_mask']
