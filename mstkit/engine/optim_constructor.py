"""Parameter groups of the student alone."""

from __future__ import annotations

from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from mstkit.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class TrainableOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """mmengine's constructor, which passes over modules without a trainable parameter.

    mmengine gives every parameter a group and warns, one line each, about those that take no gradient: with a
    momentum teacher that is half of the model.
    """

    def add_params(self, params: list[dict], module: nn.Module, *args, **kwargs) -> None:
        """See mmengine; called for each module, its children included."""
        if any(parameter.requires_grad for parameter in module.parameters()):
            super().add_params(params, module, *args, **kwargs)
