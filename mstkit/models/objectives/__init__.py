from mstkit.models.objectives.adversarial_masking import AdversarialMasking
from mstkit.models.objectives.coding_rate import CodingRate
from mstkit.models.objectives.cross_view import CrossView
from mstkit.models.objectives.curriculum_masking import CurriculumMasking
from mstkit.models.objectives.image_restoration import ImageRestoration
from mstkit.models.objectives.key_contrast import KeyContrast
from mstkit.models.objectives.koleo import KoLeo
from mstkit.models.objectives.loss_prediction import LossPrediction
from mstkit.models.objectives.mask_generation import MaskGeneration
from mstkit.models.objectives.masked_prediction import MaskedPrediction
from mstkit.models.objectives.objective import Objective, Surroundings, build_objectives
from mstkit.models.objectives.patch_distillation import PatchDistillation
from mstkit.models.objectives.prototype_matching import PrototypeMatching
from mstkit.models.objectives.regularizer import Regularizer
from mstkit.models.objectives.sigreg import SIGReg
from mstkit.models.objectives.target_view_contrast import TargetViewContrast
from mstkit.models.objectives.view_contrast import ViewContrast

__all__ = [
    'AdversarialMasking',
    'CodingRate',
    'CrossView',
    'CurriculumMasking',
    'ImageRestoration',
    'KeyContrast',
    'KoLeo',
    'LossPrediction',
    'MaskGeneration',
    'MaskedPrediction',
    'Objective',
    'PatchDistillation',
    'PrototypeMatching',
    'Regularizer',
    'SIGReg',
    'Surroundings',
    'TargetViewContrast',
    'ViewContrast',
    'build_objectives',
]
