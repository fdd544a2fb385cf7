from mstkit.models.algorithms import MSTAlgorithm, SelfDistillation
from mstkit.models.backbones import MaskedBackbone, MaskedSwinTransformer, MaskedVisionTransformer
from mstkit.models.decoders import CNNImageDecoder
from mstkit.models.heads import DINOHead
from mstkit.models.maskers import AttentionGuidedMasker, Masker, RandomMasker
from mstkit.models.momentum_teacher import MomentumTeacher
from mstkit.models.necks import DINONeck

__all__ = [
    'AttentionGuidedMasker',
    'CNNImageDecoder',
    'DINOHead',
    'DINONeck',
    'MSTAlgorithm',
    'MaskedBackbone',
    'MaskedSwinTransformer',
    'MaskedVisionTransformer',
    'Masker',
    'MomentumTeacher',
    'RandomMasker',
    'SelfDistillation',
]
