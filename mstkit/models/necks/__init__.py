from mstkit.models.necks.dino_neck import DINONeck
from mstkit.models.necks.simple_fpn import SimpleFPN

__all__ = ['DINONeck', 'SimpleFPN']
