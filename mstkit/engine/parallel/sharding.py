"""Weights, gradients and optimizer state spread over the processes: FSDP2 behind ``model_wrapper_cfg``.

Why not mmengine's FlexibleRunner: its FSDP strategy wraps FSDP1's flat parameters, which know neither the teacher's
moving average nor clipping by tensor, and it would leave behind what :class:`MSTRunner` does about checkpoints,
resuming and wrong configs. With ``torch.distributed.fsdp.fully_shard`` every parameter stays one tensor with its own
name, spread over the processes (DTensor), so optimizer, schedules, hooks and names in checkpoints stay as they are. A
user of mmengine chooses it where DDP is chosen::

    model_wrapper_cfg = dict(type='FullyShard')

Student and teacher are cut at the same places, so the teacher follows on each process's own parts, without exchange.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from mmengine import dist
from mmengine.device import get_device
from torch import Tensor, nn

from mstkit.errors import UsageError
from mstkit.models import Pretrainer, interface_of
from mstkit.utils.local_shards import is_spread
from mstkit.utils.private_attributes import make_root_of_sharding

FULLY_SHARD = 'FullyShard'
_SETTINGS = ('type', 'reshard_after_forward', 'bf16_weights')
# What is called instead of forward: torch gathers the weights around these as well.
_ENTRANCES = ('forward_tokens', 'panel')


def wants_sharding(settings: Mapping[str, Any] | None) -> bool:
    """Whether ``model_wrapper_cfg`` asks for it."""
    return (settings or {}).get('type', '').removeprefix('mstkit.') == FULLY_SHARD


def is_sharded(model: nn.Module) -> bool:
    """Whether the weights of a model are spread over the processes."""
    return any(is_spread(parameter) for parameter in model.parameters())


def shard(model: nn.Module, settings: Mapping[str, Any]) -> nn.Module:
    """Initializes a model, the same on every process, and spreads it over all of them, in place.

    Each block of each backbone is gathered by itself when it is its turn and given back after; the rest of a backbone
    likewise; all that is left (necks, decoder, mask token) is gathered for the whole step.

    Args:
        model: not yet trained; it is whole on every process until now.
        settings: ``model_wrapper_cfg``: ``reshard_after_forward`` (True; False keeps the student's blocks gathered
            until the backward pass, which is faster and needs more memory), ``bf16_weights`` (False; True gathers the
            blocks' weights in bfloat16, half the bytes; gradients are still added up in float32).

    Returns:
        The same model.

    Raises:
        UsageError: an unknown setting, or a torch without ``fully_shard``.
    """
    unknown = [name for name in settings if name not in _SETTINGS]
    if unknown:
        raise UsageError(
            f'model_wrapper_cfg of type {FULLY_SHARD} has no setting {unknown[0]!r}; it has {", ".join(_SETTINGS[1:])}.'
        )
    try:  # here, because only who spreads a model needs a torch that has it
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
    except ImportError:
        raise UsageError(f'{FULLY_SHARD} needs torch 2.6 or newer, and this is {torch.__version__}.') from None
    # Tokens are views of what a backbone computes; nobody writes into them.
    warnings.filterwarnings('ignore', message=r'FSDP2-wrapped module \(.*\) returned a view tensor')
    model = model.to(get_device())
    if hasattr(model, 'init_weights'):
        model.init_weights()  # type: ignore[operator]
    for value in model.state_dict().values():
        dist.broadcast(value)
    mesh = init_device_mesh(get_device(), (dist.get_world_size(),))
    policy = MixedPrecisionPolicy()
    if settings.get('bf16_weights'):
        policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
    branches = interface_of(model).branches()
    for backbone in branches.values():
        trained = any(parameter.requires_grad for parameter in backbone.parameters())
        again = bool(settings.get('reshard_after_forward', True)) or not trained
        for block in _blocks(backbone):
            fully_shard(block, mesh=mesh, reshard_after_forward=again, mp_policy=policy)
            if isinstance(first := getattr(block, 'ln1', None), nn.Module):
                first.register_forward_pre_hook(functools.partial(_gather, block))
        fully_shard(backbone, mesh=mesh, reshard_after_forward=again)
    if isinstance(model, Pretrainer) and model.teacher is not None and model.teacher.follow == 'before_step':
        # The teacher follows inside the forward pass, while what is gathered for the whole step is not in parts.
        for parts in (model.followed(), dict(model.teacher.named_children())):
            for part in parts.values():
                if not isinstance(part, FSDPModule):
                    fully_shard(part, mesh=mesh, reshard_after_forward=True)
    fully_shard(model, mesh=mesh)
    for module in (model, *branches.values()):
        for name in _ENTRANCES:
            if callable(getattr(module, name, None)):
                register_fsdp_forward_method(module, name)
    # k-NN may ask a backbone for features before the first step: the whole model stays the root all the same.
    make_root_of_sharding(model)
    return model


def _gather(block: Any, *_: Any) -> None:
    """Attention that a masker asks for is computed from the block's weights before it is the block's turn."""
    if not torch.compiler.is_compiling():  # inside the block itself
        block.unshard()


def _blocks(backbone: nn.Module) -> list[nn.Module]:
    """The blocks of a vision transformer; a network of other parts is gathered as a whole."""
    layers = getattr(backbone, 'layers', None)
    return list(layers) if isinstance(layers, nn.ModuleList) else []


def spread_like(whole: Tensor, like: Any) -> Tensor:
    """This process's part of a whole tensor, as the model's own tensor of that name is spread."""
    if not is_spread(like):
        return whole
    # here, because a torch that was built without distributed training has no tensors to spread
    from torch.distributed.tensor import distribute_tensor

    whole = whole.to(like.device, like.dtype)
    # Every process has read the whole: nothing is sent.
    return distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None)


def spread_optimizer_state(state: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """An optimizer's state of whole tensors, spread as its parameters are."""
    like: dict[int, Tensor] = {}
    for saved, group in zip(state['param_groups'], optimizer.param_groups, strict=True):
        like.update(zip(saved['params'], group['params'], strict=True))
    spread = {
        number: {
            name: spread_like(value, like[number])
            if isinstance(value, Tensor) and value.shape == like[number].shape
            else value
            for name, value in values.items()
        }
        for number, values in state['state'].items()
    }
    return {**state, 'state': spread}
