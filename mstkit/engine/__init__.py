"""How a model is trained: the runner and its loop, the optimizer wrapper, and the hooks."""

import mstkit.registry  # noqa: F401  (first: it imports torch and mmpretrain, see mstkit/_dependencies.py)
from mstkit.engine import hooks
from mstkit.engine.optim.layer_decay import BackboneLayerDecayConstructor
from mstkit.engine.optim.muon_adamw import MuonAdamW
from mstkit.engine.optim.optim_constructor import TrainableOptimWrapperConstructor
from mstkit.engine.optim.optim_wrapper import DistillationOptimWrapper
from mstkit.engine.optim.warmup_cosine import WarmupCosineLR
from mstkit.engine.runner.mst_runner import MSTRunner
from mstkit.engine.runner.train_loop import ResumableEpochLoop

__all__ = [
    'BackboneLayerDecayConstructor',
    'DistillationOptimWrapper',
    'MSTRunner',
    'MuonAdamW',
    'ResumableEpochLoop',
    'TrainableOptimWrapperConstructor',
    'WarmupCosineLR',
    'hooks',
]
