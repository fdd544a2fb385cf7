from mstkit.models.heads.centred_head import CentredHead
from mstkit.models.heads.dino_head import DINOHead
from mstkit.models.heads.ibot_head import IBOTHead, patch_weights

__all__ = ['CentredHead', 'DINOHead', 'IBOTHead', 'patch_weights']
