"""How a model is wrapped for several processes: what its gradients are exchanged with."""

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
    """The arguments of ``DistributedDataParallel``, where the config says nothing else.

    Gradients are views into the buckets that are exchanged: one copy of all gradients less in memory, and none is made
    before the optimizer reads them. Nobody looks for parameters that a step left out. The graph is declared static for
    a :class:`mstkit.models.TrainedModel` that says so (``static_graph``: every step uses the same parameters in
    the same way), except while gradients accumulate: there DDP would exchange the very first iteration's on its own.

    Args:
        model: what is wrapped.
        given: ``model_wrapper_cfg`` of the config; wins. With a type of its own, nothing is added to it.
        optim_wrapper: the optimizer wrapper or its config, for ``accumulative_counts``.
        find_unused_parameters: the config's.
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
