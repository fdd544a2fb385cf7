from mstkit.models.algorithms.adios import ADIOS
from mstkit.models.algorithms.beit import BEiT
from mstkit.models.algorithms.boot_mae import BootMAE
from mstkit.models.algorithms.cl_mae import CLMAE
from mstkit.models.algorithms.cmae import CMAE
from mstkit.models.algorithms.data2vec import Data2Vec
from mstkit.models.algorithms.data2vec2 import Data2Vec2
from mstkit.models.algorithms.dbot import DBOT
from mstkit.models.algorithms.dino import DINO
from mstkit.models.algorithms.ibot import IBOT
from mstkit.models.algorithms.local_mim import LocalMIM
from mstkit.models.algorithms.mae import MAE
from mstkit.models.algorithms.maskfeat import MaskFeat
from mstkit.models.algorithms.moby import MoBY
from mstkit.models.algorithms.msn import MSN
from mstkit.models.algorithms.mst import MSTAlgorithm
from mstkit.models.algorithms.simmim import SimMIM

__all__ = [
    'ADIOS',
    'CLMAE',
    'CMAE',
    'DBOT',
    'DINO',
    'IBOT',
    'MAE',
    'MSN',
    'BEiT',
    'BootMAE',
    'Data2Vec',
    'Data2Vec2',
    'LocalMIM',
    'MSTAlgorithm',
    'MaskFeat',
    'MoBY',
    'SimMIM',
]
