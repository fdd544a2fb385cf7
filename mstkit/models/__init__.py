import mstkit.registry  # noqa: F401  (first: it imports torch and mmpretrain, see mstkit/_dependencies.py)
from mstkit.models.algorithms import DINO, IBOT, MAE, BEiT, Data2Vec, MaskFeat, MoBY, MSTAlgorithm, SimMIM
from mstkit.models.backbones import MaskedBackbone, MaskedSwinTransformer, MaskedVisionTransformer
from mstkit.models.data_preprocessors import ViewDataPreprocessor
from mstkit.models.decoders import CNNImageDecoder, LinearDecoder, TokenDecoder, ViTDecoder
from mstkit.models.guides import CachedGuide, EMAGuide, Guide, StudentGuide, TeacherGuide
from mstkit.models.heads import DINOHead, IBOTHead, MoBYHead
from mstkit.models.interface import ForeignModel, TrainedModel, interface_of
from mstkit.models.maskers import (
    AttentionGuidedMasker,
    AttMaskHigh,
    AttMaskHint,
    AttMaskLow,
    BlockMasker,
    ColorNoiseMasker,
    InverseBlockMasker,
    Masker,
    MaskerSchedule,
    MultinomialMasker,
    RandomMasker,
    RatioSchedule,
    TopShareMasker,
)
from mstkit.models.momentum_teacher import MomentumTeacher
from mstkit.models.necks import DINONeck, SimpleFPN
from mstkit.models.objectives import (
    CodingRate,
    CrossView,
    ImageRestoration,
    KeyContrast,
    KoLeo,
    MaskedPrediction,
    Objective,
    PatchDistillation,
    SIGReg,
)
from mstkit.models.pretrainer import Pretrainer
from mstkit.models.step import Step
from mstkit.models.targets import HOG, Pixels, Target, TeacherLayers, Tokens
from mstkit.models.tokenizers import DALLETokenizer, KMeansTokenizer, PatchTokenizer, Tokenizer, VQKDTokenizer

__all__ = [
    'DINO',
    'HOG',
    'IBOT',
    'MAE',
    'AttMaskHigh',
    'AttMaskHint',
    'AttMaskLow',
    'AttentionGuidedMasker',
    'BEiT',
    'BlockMasker',
    'CNNImageDecoder',
    'CachedGuide',
    'CodingRate',
    'ColorNoiseMasker',
    'CrossView',
    'DALLETokenizer',
    'DINOHead',
    'DINONeck',
    'Data2Vec',
    'EMAGuide',
    'ForeignModel',
    'Guide',
    'IBOTHead',
    'ImageRestoration',
    'InverseBlockMasker',
    'KMeansTokenizer',
    'KeyContrast',
    'KoLeo',
    'LinearDecoder',
    'MSTAlgorithm',
    'MaskFeat',
    'MaskedBackbone',
    'MaskedPrediction',
    'MaskedSwinTransformer',
    'MaskedVisionTransformer',
    'Masker',
    'MaskerSchedule',
    'MoBY',
    'MoBYHead',
    'MomentumTeacher',
    'MultinomialMasker',
    'Objective',
    'PatchDistillation',
    'PatchTokenizer',
    'Pixels',
    'Pretrainer',
    'RandomMasker',
    'RatioSchedule',
    'SIGReg',
    'SimMIM',
    'SimpleFPN',
    'Step',
    'StudentGuide',
    'Target',
    'TeacherGuide',
    'TeacherLayers',
    'TokenDecoder',
    'Tokenizer',
    'Tokens',
    'TopShareMasker',
    'TrainedModel',
    'VQKDTokenizer',
    'ViTDecoder',
    'ViewDataPreprocessor',
    'interface_of',
]
