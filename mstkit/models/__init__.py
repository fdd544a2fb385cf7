from mstkit.models.algorithms import DINO, IBOT, MoBY, MSTAlgorithm, SelfDistillation, TeacherStudent
from mstkit.models.backbones import MaskedBackbone, MaskedSwinTransformer, MaskedVisionTransformer
from mstkit.models.data_preprocessors import ViewDataPreprocessor
from mstkit.models.decoders import CNNImageDecoder
from mstkit.models.heads import DINOHead, IBOTHead, MoBYHead
from mstkit.models.maskers import (
    AttentionGuidedMasker,
    AttMaskHigh,
    AttMaskHint,
    AttMaskLow,
    BlockMasker,
    Masker,
    MaskerSchedule,
    RandomMasker,
    RatioSchedule,
)
from mstkit.models.momentum_teacher import MomentumTeacher
from mstkit.models.necks import DINONeck, SimpleFPN

__all__ = [
    'DINO',
    'IBOT',
    'AttMaskHigh',
    'AttMaskHint',
    'AttMaskLow',
    'AttentionGuidedMasker',
    'BlockMasker',
    'CNNImageDecoder',
    'DINOHead',
    'DINONeck',
    'IBOTHead',
    'MSTAlgorithm',
    'MaskedBackbone',
    'MaskedSwinTransformer',
    'MaskedVisionTransformer',
    'Masker',
    'MaskerSchedule',
    'MoBY',
    'MoBYHead',
    'MomentumTeacher',
    'RandomMasker',
    'RatioSchedule',
    'SelfDistillation',
    'SimpleFPN',
    'TeacherStudent',
    'ViewDataPreprocessor',
]
