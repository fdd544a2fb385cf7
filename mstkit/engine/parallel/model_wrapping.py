"""Arguments of ``DistributedDataParallel`` for a model that is trained with several processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.optim import OptimWrapper
from torch import nn

from mstkit.models import interface_of
from mstkit.utils.private_attributes import accumulative_counts

DDP = 'MMDistributedDataParallel'


def ddp_settings(
    model: nn.Module,
    given: Mapping[str, Any] | None,
    optim_wrapper: OptimWrapper | Mapping[str, Any] | None,
    find_unused_parameters: bool = False,
) -> dict[str, Any]:
    """The arguments of ``DistributedDataParallel``: defaults, overridden by the config.

    Gradients are views into DDP's buckets, which saves one copy of all gradients. DDP does not search for unused
    parameters. The graph is declared static for a :class:`mstkit.models.TrainedModel` whose ``static_graph`` is True
    (every step uses the same parameters in the same way), except with gradient accumulation: there DDP would
    exchange the gradients of the very first iteration separately.

    Args:
        model: the model to be wrapped.
        given: ``model_wrapper_cfg`` of the config; takes precedence. With another ``type`` it is returned unchanged.
        optim_wrapper: the optimizer wrapper or its config, for ``accumulative_counts``.
        find_unused_parameters: as in the config.
    """
    given = dict(given or {})
    if given.get('type', DDP) not in (DDP, f'mmengine.{DDP}'):
        return given
    if isinstance(optim_wrapper, Mapping):
        accumulates = optim_wrapper.get('accumulative_counts', 1) > 1
    else:
        accumulates = accumulative_counts(optim_wrapper) > 1
    defaults = dict(
        type=DDP,
        broadcast_buffers=False,
        find_unused_parameters=find_unused_parameters,
        gradient_as_bucket_view=True,
        static_graph=interface_of(model).static_graph and not accumulates,
    )
    return defaults | given
