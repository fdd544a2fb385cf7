"""Which numbers of a model, or of its losses, are NaN or infinite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mstkit.utils.local_shards import local_parts

Value = TypeVar('Value')


def not_finite(state: Mapping[str, Any]) -> list[str]:
    """The names of tensors with NaN or infinity (of sharded ones, in this process's shard); one synchronization."""
    names = [name for name, value in state.items() if isinstance(value, Tensor) and value.is_floating_point()]
    finite = [torch.isfinite(part).all() for part in local_parts([state[name] for name in names])]
    by_device: dict[torch.device, list[int]] = {}
    for index, one in enumerate(finite):
        by_device.setdefault(one.device, []).append(index)
    broken = [
        index
        for indices in by_device.values()
        for index, good in zip(indices, torch.stack([finite[i] for i in indices]).tolist(), strict=True)
        if not good
    ]
    return [names[index] for index in sorted(broken)]


def infinite_by_design(model: nn.Module) -> frozenset[str]:
    """The names of buffers with infinity but no NaN, such as a mask that is added to attention scores."""
    own = model.state_dict()
    parameters = {name for name, _ in model.named_parameters()}
    found = (name for name in not_finite(own) if name not in parameters)
    return frozenset(name for name in found if not local_parts([own[name]])[0].isnan().any())


def terms_of(broken: Mapping[str, Value]) -> Mapping[str, Value]:
    """Losses that are not finite, without the sum ``loss``: if a term is not, neither is the sum. Alone, it stays."""
    return {name: value for name, value in broken.items() if name != 'loss'} or broken
