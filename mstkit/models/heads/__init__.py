from mstkit.models.heads.centered_head import CenteredHead, step_together
from mstkit.models.heads.dino_head import DINOHead
from mstkit.models.heads.ibot_head import IBOTHead, patch_weights
from mstkit.models.heads.moby_head import MoBYHead
from mstkit.models.heads.sinkhorn import sinkhorn_log_assignments

__all__ = [
    'CenteredHead',
    'DINOHead',
    'IBOTHead',
    'MoBYHead',
    'patch_weights',
    'sinkhorn_log_assignments',
    'step_together',
]
