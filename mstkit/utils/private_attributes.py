"""The only access to private attributes of mmengine and torch, each by a function of its own.

Tested with torch 2.14.1 and mmengine 0.10.12 (as onedl-mmengine); if a newer version renames something, only this file
needs to change. Private names that a subclass inherits or overrides are not covered.
"""

from __future__ import annotations

import os
import sys
import threading
from types import FrameType
from typing import Any, NoReturn

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import Registry
from mmengine.runner import Runner
from mmengine.visualization import Visualizer
from mmengine.visualization.vis_backend import BaseVisBackend
from torch import Tensor, nn
from torch.distributed import PrefixStore, Store, distributed_c10d


def end_process(code: int) -> NoReturn:
    """Ends the process from any of its threads, without what is otherwise done at its end."""
    os._exit(code)


def frame_of(thread: threading.Thread) -> FrameType | None:
    """Where a thread is; None if it does not run."""
    return sys._current_frames().get(thread.ident or 0)


def connection_of_group(name: str) -> Store:
    """A connection to the store of the process group, for a thread of its own; its keys begin with a name.

    The group's own connection may be blocked by a call that waits.
    """
    store = distributed_c10d._get_default_store()
    return PrefixStore(name, store.clone() if hasattr(store, 'clone') else store)  # torch 2.5 has no clone


def has_hooks(module: nn.Module) -> bool:
    """Whether anything is called before or after a module's forward pass."""
    return bool(module._forward_pre_hooks or module._forward_hooks)


def keeps_graph() -> bool:
    """Whether the backward pass that runs leaves its graph for another one (``retain_graph``); True where unknown."""
    inside = torch._C._autograd
    known = hasattr(inside, '_get_current_graph_task_keep_graph')  # older versions of torch do not say
    return not known or inside._get_current_graph_task_keep_graph()


def content_of(config: Config) -> ConfigDict:
    """The dict inside a config, without copying: ``Config`` is no mapping, and ``to_dict`` copies."""
    return config._cfg_dict


def registry_of_scope(registry: Registry, scope: str) -> Registry | None:
    """The registry of the same kind under another scope, anywhere in the tree; None where there is none."""
    return registry.root._search_child(scope)


def make_child_of_root(registry: Registry) -> None:
    """Makes a registry a child of the root, where mmengine looks up the scope of a prefix."""
    registry.root._add_child(registry)


def loaded_from(runner: Runner) -> str | None:
    """The checkpoint from which a run resumes or loads weights."""
    return runner._load_from


def is_resumed(runner: Runner) -> bool:
    """Whether a run resumes from a checkpoint."""
    return runner._resume


def validates(runner: Runner) -> bool:
    """Whether a run has a validation of the config's ``val_cfg``."""
    return runner._val_loop is not None


def backends_of(visualizer: Visualizer) -> list[BaseVisBackend]:
    """Where a visualizer writes to."""
    return list(visualizer._vis_backends.values())


def set_progress(loop: Any, epoch: int, iteration: int) -> None:
    """Sets epoch and iteration of a training loop, which are read-only properties in mmengine."""
    loop._epoch, loop._iter = epoch, iteration


def forget_steps(scheduler: Any) -> None:
    """Resets a scheduler to its state before the first step."""
    scheduler.last_step, scheduler._global_step = -1, -1


def scale_of(scaler: torch.amp.GradScaler) -> Tensor:
    """The factor of a loss scaler, on its device; ``get_scale`` copies it to the host. It is changed in place."""
    scale = scaler._get_scale_async()
    assert scale is not None, 'it scales nothing yet'
    return scale


def mark_as_counted(step: Any) -> None:
    """Marks the ``step`` of an optimizer so that schedulers do not wrap it in a counter of its calls."""
    step._with_counter = True


def accumulative_counts(optim_wrapper: Any) -> int:
    """Iterations per step of an optimizer wrapper; 1 of one that does not say, such as mmengine's of several."""
    return getattr(optim_wrapper, '_accumulative_counts', 1)  # OptimWrapperDict has none


def multiplies_bf16() -> bool:
    """Whether this CPU multiplies bf16 in hardware (AVX-512 BF16 or AMX), as far as this version of torch can tell."""
    # Versions of torch differ in which they have.
    checks = (getattr(torch.cpu, name, None) for name in ('_is_avx512_bf16_supported', '_is_amx_tile_supported'))
    return any(check is not None and check() for check in checks)


def norms_of(tensors: list[Tensor]) -> Tensor:
    """The L2 norm of each tensor, in few kernels: (len(tensors),)."""
    return torch.stack(torch._foreach_norm(tensors, 2.0))


def scale_each_(tensors: list[Tensor], factors: Tensor) -> None:
    """Multiplies each tensor by its own factor, (len(tensors),), in place and in few kernels."""
    torch._foreach_mul_(tensors, list(factors.unbind()))


def lerp_each(tensors: list[Tensor], ends: list[Tensor], weight: float) -> list[Tensor]:
    """``tensor.lerp(end, weight)`` of each pair, in few kernels."""
    return list(torch._foreach_lerp(tensors, ends, weight))


def scaled_sums(tensors: list[Tensor], factors: list[float], others: list[Tensor], alpha: float) -> list[Tensor]:
    """``factor * tensor + alpha * other`` of each, in few kernels."""
    made = torch._foreach_mul(tensors, factors)
    torch._foreach_add_(made, others, alpha=alpha)
    return list(made)


def copy_each_(tensors: list[Tensor], values: list[Tensor]) -> None:
    """Writes values into tensors, in few kernels."""
    torch._foreach_copy_(tensors, values)


def parameter_at(layer: nn.Module, name: str) -> Tensor | None:
    """What a layer keeps as the parameter of this name, which may stand in for one; None for none or a computed one."""
    return layer._parameters.get(name)


def put_parameter(layer: nn.Module, name: str, tensor: Tensor) -> None:
    """Lets a tensor that need not be a parameter, and may have a gradient to one, stand in for a layer's parameter."""
    layer._parameters[name] = tensor  # type: ignore[assignment]  # setattr refuses what is no parameter


def compile_single_layers(graphs: int) -> None:
    """Sets up ``torch.compile`` for small graphs: DDP cuts none of them, and ``graphs`` of one function are kept."""
    import torch._dynamo as dynamo  # half a second, for those who compile

    dynamo.config.optimize_ddp = False
    dynamo.config.cache_size_limit = max(dynamo.config.cache_size_limit, graphs)


def make_root_of_sharding(model: nn.Module) -> None:
    """Makes a sharded model the root of its parts now, though one of these may be called before the whole."""
    model._get_fsdp_state()._lazy_init()  # type: ignore[operator]
