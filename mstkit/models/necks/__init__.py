from mstkit.models.necks.dino_neck import DINONeck

__all__ = ['DINONeck']
