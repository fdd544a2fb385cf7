"""How a model is trained: the runner and its loop, the optimizer wrapper, and the hooks."""

import mstkit.registry  # noqa: F401  (first: it imports torch and mmpretrain, see mstkit/_dependencies.py)
from mstkit.engine import hooks
from mstkit.engine.loop import ResumableEpochLoop
from mstkit.engine.optim_constructor import TrainableOptimWrapperConstructor
from mstkit.engine.optim_wrapper import DistillationOptimWrapper
from mstkit.engine.runner import MSTRunner
from mstkit.engine.warmup_cosine import WarmupCosineLR

__all__ = [
    'DistillationOptimWrapper',
    'MSTRunner',
    'ResumableEpochLoop',
    'TrainableOptimWrapperConstructor',
    'WarmupCosineLR',
    'hooks',
]
