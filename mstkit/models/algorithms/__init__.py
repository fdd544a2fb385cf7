from mstkit.models.algorithms.dino import DINO
from mstkit.models.algorithms.ibot import IBOT
from mstkit.models.algorithms.moby import MoBY
from mstkit.models.algorithms.mst import MSTAlgorithm
from mstkit.models.algorithms.self_distillation import SelfDistillation
from mstkit.models.algorithms.teacher_student import TeacherStudent

__all__ = ['DINO', 'IBOT', 'MSTAlgorithm', 'MoBY', 'SelfDistillation', 'TeacherStudent']
