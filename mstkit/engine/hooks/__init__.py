"""Training hooks. Importing this package registers them."""

from mstkit.engine.hooks.checkpoint_hook import AtomicCheckpointHook
from mstkit.engine.hooks.collapse_monitor_hook import CollapseMonitorHook
from mstkit.engine.hooks.guide_cache_hook import GuideCacheHook
from mstkit.engine.hooks.knn_hook import KNNHook
from mstkit.engine.hooks.non_finite_hook import NonFiniteLossError, NonFiniteLossHook
from mstkit.engine.hooks.panel_hook import PanelHook
from mstkit.engine.hooks.param_scheduler_hook import StepParamSchedulerHook
from mstkit.engine.hooks.pretrained_backbone_hook import PretrainedBackboneHook
from mstkit.engine.hooks.progress_hook import ProgressHook
from mstkit.engine.hooks.step_info_hook import StepInfoHook
from mstkit.engine.hooks.unreadable_image_hook import UnreadableImageHook

__all__ = [
    'AtomicCheckpointHook',
    'CollapseMonitorHook',
    'GuideCacheHook',
    'KNNHook',
    'NonFiniteLossError',
    'NonFiniteLossHook',
    'PanelHook',
    'PretrainedBackboneHook',
    'ProgressHook',
    'StepInfoHook',
    'StepParamSchedulerHook',
    'UnreadableImageHook',
]
