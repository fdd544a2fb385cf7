from mstkit.models.algorithms.dino import DINO
from mstkit.models.algorithms.ibot import IBOT
from mstkit.models.algorithms.moby import MoBY
from mstkit.models.algorithms.mst import MSTAlgorithm

__all__ = ['DINO', 'IBOT', 'MSTAlgorithm', 'MoBY']
