from mstkit.models.guides.cached import CachedGuide, crop_maps
from mstkit.models.guides.ema import EMAGuide
from mstkit.models.guides.generated import GeneratedMaskGuide
from mstkit.models.guides.guide import Guide, GuidedParts, build_guide
from mstkit.models.guides.guide_request import GuideRequest
from mstkit.models.guides.learned_mask import LearnedMaskGuide
from mstkit.models.guides.predicted_loss import PredictedLossGuide
from mstkit.models.guides.student import StudentGuide
from mstkit.models.guides.teacher import TeacherGuide

__all__ = [
    'CachedGuide',
    'EMAGuide',
    'GeneratedMaskGuide',
    'Guide',
    'GuideRequest',
    'GuidedParts',
    'LearnedMaskGuide',
    'PredictedLossGuide',
    'StudentGuide',
    'TeacherGuide',
    'build_guide',
    'crop_maps',
]
