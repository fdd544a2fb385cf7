"""Learning rates that fall from layer to layer, for models of mmdet and mmseg as for those of mmpretrain."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, cast, runtime_checkable

from mmpretrain.engine.optimizers import LearningRateDecayOptimWrapperConstructor
from torch import nn

from mstkit.errors import UsageError
from mstkit.registry import OPTIM_WRAPPER_CONSTRUCTORS


@runtime_checkable
class KnowsLayerDepths(Protocol):
    """A network that tells the layer of a parameter, as mmpretrain's backbones and classifiers do."""

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """The layer of a parameter and the number of layers; ``prefix`` is what precedes the network's own names."""


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class BackboneLayerDecayConstructor(LearningRateDecayOptimWrapperConstructor):
    """mmpretrain's ``LearningRateDecayOptimWrapperConstructor`` for any model that has a backbone.

    mmpretrain's asks the model for the layer of a parameter, which of the toolboxes only its own classifiers know: here
    the backbone is asked, and what is not of the backbone counts as above its last layer.
    """

    def add_params(
        self,
        params: list[dict],
        module: nn.Module,
        prefix: str = '',
        get_layer_depth: Callable[[str], tuple[int, int]] | None = None,
        **kwargs: Any,
    ) -> None:
        """See mmpretrain; called for each module.

        Raises:
            UsageError: the backbone does not know its layers.
        """
        if get_layer_depth is None:
            backbone = dict(module.named_children()).get('backbone')
            if not isinstance(backbone, KnowsLayerDepths):
                raise UsageError(
                    f'optim_wrapper.paramwise_cfg.layer_decay_rate needs a backbone that knows its layers, and that of '
                    f'{type(module).__name__} is {type(backbone).__name__ if backbone else "not there"}: take '
                    'mstkit.MaskedVisionTransformer or mstkit.MaskedSwinTransformer, or leave out the constructor.'
                )
            get_layer_depth = cast(
                Callable[[str], tuple[int, int]], partial(backbone.get_layer_depth, prefix='backbone.')
            )
        super().add_params(params, module, prefix=prefix, get_layer_depth=get_layer_depth, **kwargs)
