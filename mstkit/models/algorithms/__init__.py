from mstkit.models.algorithms.mst import MSTAlgorithm
from mstkit.models.algorithms.self_distillation import SelfDistillation

__all__ = ['MSTAlgorithm', 'SelfDistillation']
