"""mstkit's registries: children of mmpretrain's, so that a config uses the names of both without a prefix.

A config in mmdet's or mmseg's scope uses the prefix ``mstkit.``.

The parents have to be imported before a name of theirs can be found, hence the imports of ``mmpretrain.models``
and friends at the top (:mod:`mstkit._dependencies`); our own rooms are imported when a name is first looked up. A
component is registered under the scope ``mstkit``, which :func:`mstkit.engine.launch.launch` makes the default one.
"""

# ruff: noqa: E402

from __future__ import annotations

from mstkit._dependencies import load

load()

from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import RUNNERS as MMENGINE_RUNNERS
from mmengine.registry import Registry as MMEngineRegistry
from mmpretrain import registry as mmpretrain_registry

from mstkit.utils.argument_types import CALLED, checked
from mstkit.utils.private_attributes import make_child_of_root


class Registry(MMEngineRegistry):
    """mmengine's registry; components of mstkit that are registered check the types of their arguments."""

    def _register_module(self, module: type, module_name: str | list[str] | None = None, force: bool = False) -> None:
        if isinstance(module, type) and module.__module__.startswith('mstkit.'):
            checked(module)
            if self.name == 'evaluator':
                setattr(module, CALLED, module_name)
        super()._register_module(module, module_name, force)


# Behind mstkit.interop, weights that an init_cfg names are read as data and never executed.
MODELS = Registry(
    'model',
    parent=mmpretrain_registry.MODELS,
    scope='mstkit',
    locations=['mstkit.models', 'mstkit.interop', 'mstkit.networks'],
)
DATASETS = Registry(
    'dataset', parent=mmpretrain_registry.DATASETS, scope='mstkit', locations=['mstkit.datasets', 'mstkit.scenes']
)
TRANSFORMS = Registry('transform', parent=mmpretrain_registry.TRANSFORMS, scope='mstkit', locations=['mstkit.datasets'])
DATA_SAMPLERS = Registry(
    'data sampler', parent=mmpretrain_registry.DATA_SAMPLERS, scope='mstkit', locations=['mstkit.datasets']
)
# A registry only imports its own locations, hence mmpretrain's are repeated, here and below.
_ENGINE, _VISUALIZATION, _EVALUATION = ['mmpretrain.engine'], ['mmpretrain.visualization'], ['mmpretrain.evaluation']
HOOKS = Registry('hook', parent=mmpretrain_registry.HOOKS, scope='mstkit', locations=['mstkit.engine', *_ENGINE])
# What a suite measures about a trained network, by the name that tools/evaluation/evaluate.py knows.
EVALUATORS = Registry(
    'evaluator',
    parent=mmpretrain_registry.EVALUATORS,
    scope='mstkit',
    locations=['mstkit.evaluation.evaluators', *_EVALUATION],
)
LOOPS = Registry('loop', parent=MMENGINE_LOOPS, scope='mstkit', locations=['mstkit.engine'])
RUNNERS = Registry('runner', parent=MMENGINE_RUNNERS, scope='mstkit', locations=['mstkit.engine'])
OPTIM_WRAPPERS = Registry('optim_wrapper', parent=MMENGINE_OPTIM_WRAPPERS, scope='mstkit', locations=['mstkit.engine'])

PARAM_SCHEDULERS = Registry(
    'parameter scheduler',
    parent=mmpretrain_registry.PARAM_SCHEDULERS,
    scope='mstkit',
    locations=['mstkit.engine', *_ENGINE],
)
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor',
    parent=mmpretrain_registry.OPTIM_WRAPPER_CONSTRUCTORS,
    scope='mstkit',
    locations=['mstkit.engine', *_ENGINE],
)

VISBACKENDS = Registry(
    'vis_backend',
    parent=mmpretrain_registry.VISBACKENDS,
    scope='mstkit',
    locations=['mstkit.visualization.tracker_backends', *_VISUALIZATION],
)

# No component of ours: here so that mmengine finds the scope everywhere, and mmpretrain's names (its visualizer)
# without a prefix.
OPTIMIZERS = Registry('optimizer', parent=mmpretrain_registry.OPTIMIZERS, scope='mstkit', locations=_ENGINE)
LOG_PROCESSORS = Registry('log_processor', parent=mmpretrain_registry.LOG_PROCESSORS, scope='mstkit', locations=_ENGINE)
MODEL_WRAPPERS = Registry('model_wrapper', parent=mmpretrain_registry.MODEL_WRAPPERS, scope='mstkit')
WEIGHT_INITIALIZERS = Registry('weight initializer', parent=mmpretrain_registry.WEIGHT_INITIALIZERS, scope='mstkit')
TASK_UTILS = Registry('task util', parent=mmpretrain_registry.TASK_UTILS, scope='mstkit')
METRICS = Registry('metric', parent=mmpretrain_registry.METRICS, scope='mstkit', locations=_EVALUATION)
VISUALIZERS = Registry('visualizer', parent=mmpretrain_registry.VISUALIZERS, scope='mstkit', locations=_VISUALIZATION)

# mmengine looks for the scope of a prefix among the children of the root alone, and ours are its grandchildren.
for _registry in [value for value in vars().values() if isinstance(value, Registry) and value.scope == 'mstkit']:
    if _registry.parent is not _registry.root:
        make_child_of_root(_registry)
