"""mstkit's registries: children of mmpretrain's, so that a config uses either's names without a prefix.

The parents have to be imported before a name of theirs can be found, hence the imports of ``mmpretrain.models``
and friends in :mod:`mstkit`. A component is registered under the scope ``mstkit``, which :func:`mstkit.engine.launch`
makes the default one.
"""

from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import RUNNERS as MMENGINE_RUNNERS
from mmengine.registry import Registry
from mmpretrain import registry as mmpretrain_registry

MODELS = Registry('model', parent=mmpretrain_registry.MODELS, scope='mstkit', locations=['mstkit.models'])
DATASETS = Registry('dataset', parent=mmpretrain_registry.DATASETS, scope='mstkit', locations=['mstkit.datasets'])
TRANSFORMS = Registry(
    'transform', parent=mmpretrain_registry.TRANSFORMS, scope='mstkit', locations=['mstkit.datasets']
)
DATA_SAMPLERS = Registry(
    'data sampler', parent=mmpretrain_registry.DATA_SAMPLERS, scope='mstkit', locations=['mstkit.datasets']
)
HOOKS = Registry('hook', parent=mmpretrain_registry.HOOKS, scope='mstkit', locations=['mstkit.engine'])
LOOPS = Registry('loop', parent=MMENGINE_LOOPS, scope='mstkit', locations=['mstkit.engine'])
RUNNERS = Registry('runner', parent=MMENGINE_RUNNERS, scope='mstkit', locations=['mstkit.engine'])
OPTIM_WRAPPERS = Registry(
    'optim_wrapper', parent=MMENGINE_OPTIM_WRAPPERS, scope='mstkit', locations=['mstkit.engine']
)
