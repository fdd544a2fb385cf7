"""Optimizer parameter groups of the trained parameters only."""

from __future__ import annotations

import logging
from typing import Any

from mmengine.logging import MMLogger
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn

from mstkit.engine.optim.merged_groups import merged
from mstkit.engine.optim.muon_adamw import block_matrices, needs_matrices
from mstkit.engine.parallel.distributed import unwrapped
from mstkit.errors import UsageError
from mstkit.models.interface import OwnLearningRate, interface_of
from mstkit.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class TrainableOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """mmengine's constructor, but modules without a trainable parameter get no parameter groups.

    mmengine gives every parameter a group and logs a warning for each one that takes no gradient: with a momentum
    teacher that is half of the model. What is fixed beside trained parameters, such as MAE's positions, is named in one
    line of the log.

    A model's ``decayed_parameters`` names parameters that get weight decay although they have one dimension;
    ``custom_keys`` of ``paramwise_cfg`` take precedence.

    Parameters whose settings are the same share a group, which an optimizer updates by one kernel: mmengine gives each
    parameter a group, and a step of a ViT-S has 300 small kernels for that. Their order in a group is the model's.

    :class:`MuonAdamW` is told which matrices of the model are Muon's.

    The parameters of a module with an ``lr_mult`` (:class:`OwnLearningRate`: objectives, occlusion networks) have that
    multiple of the learning rate that they would have without it, so that schedules keep the ratio.
    """

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Builds the optimizer and its wrapper for a model, which may be inside a distributed wrapper."""
        settings: dict[str, Any] = {} if self.paramwise_cfg is None else self.paramwise_cfg
        named: dict[str, dict] = {
            name: dict(decay_mult=1.0) for name in interface_of(unwrapped(model)).decayed_parameters
        }
        if named or any(isinstance(part, OwnLearningRate) and part.lr_mult != 1 for part in model.modules()):
            # Even if there is no key: without any setting mmengine makes a single group.
            self.paramwise_cfg: Any = {**settings, 'custom_keys': {**named, **settings.get('custom_keys', {})}}
        if needs_matrices(self.optimizer_cfg):
            self.optimizer_cfg: dict = {**self.optimizer_cfg, 'matrices': block_matrices(unwrapped(model))}
        logger, fixed = MMLogger.get_current_instance(), _FixedParameters()
        logger.addFilter(fixed)
        try:
            built = super().__call__(model)
        finally:
            logger.removeFilter(fixed)
        if fixed.names:
            logger.info(f'fixed, not trained: {", ".join(fixed.names)}')
        return built

    def add_params(self, params: list[dict], module: nn.Module, prefix: str = '', **kwargs: Any) -> None:
        """See mmengine; called for each module, its children included."""
        if any(parameter.requires_grad for parameter in module.parameters()):
            first = len(params)
            super().add_params(params, module, prefix, **kwargs)
            if isinstance(module, OwnLearningRate) and module.lr_mult != 1:
                for group in params[first:]:
                    rate = group.get('lr', self.base_lr)
                    if rate is None:
                        raise UsageError(
                            f'{type(module).__name__}.lr_mult is {module.lr_mult}, a multiple of a learning rate that '
                            'is not there: give optim_wrapper.optimizer.lr'
                        )
                    group['lr'] = rate * module.lr_mult
        if not prefix:  # the whole model
            params[:] = merged(params)


class _FixedParameters(logging.Filter):
    """Collects the names in mmengine's warnings of parameters without gradient, and keeps these out of the log."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        name, said, _ = record.getMessage().partition(' is skipped since its requires_grad=False')
        if said:
            self.names.append(name)
        return not said
