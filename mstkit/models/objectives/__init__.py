from mstkit.models.objectives.base import Objective, Surroundings, build_objectives
from mstkit.models.objectives.cross_view import CrossView
from mstkit.models.objectives.image_restoration import ImageRestoration
from mstkit.models.objectives.key_contrast import KeyContrast
from mstkit.models.objectives.masked_prediction import MaskedPrediction
from mstkit.models.objectives.patch_distillation import PatchDistillation

__all__ = [
    'CrossView',
    'ImageRestoration',
    'KeyContrast',
    'MaskedPrediction',
    'Objective',
    'PatchDistillation',
    'Surroundings',
    'build_objectives',
]
