"""Access to the local shards of tensors that are sharded over processes (DTensor)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

try:  # a torch that was built without distributed training has none
    from torch.distributed.tensor import DTensor
except ImportError:
    DTensor = None  # type: ignore[assignment,misc]


def is_spread(tensor: Any) -> bool:
    """Whether a tensor is sharded over processes."""
    return DTensor is not None and isinstance(tensor, DTensor)


def is_sharded(model: nn.Module) -> bool:
    """Whether the weights of a model are sharded over processes."""
    return any(is_spread(parameter) for parameter in model.parameters())


def whole_of(tensor: Tensor) -> Tensor:
    """A tensor gathered from all processes, which have to call this at once; one that is not sharded is unchanged."""
    return tensor.full_tensor() if is_spread(tensor) else tensor  # type: ignore[attr-defined]


def local_parts(tensors: Iterable[Tensor]) -> list[Tensor]:
    """This process's shard of each tensor, sharing its memory; other tensors are returned unchanged."""
    return [tensor.to_local() if is_spread(tensor) else tensor for tensor in tensors]  # type: ignore[attr-defined]
