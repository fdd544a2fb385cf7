"""Weights, gradients and optimizer state sharded over the processes: FSDP2, chosen by ``model_wrapper_cfg``.

Why not mmengine's FlexibleRunner: its FSDP strategy uses FSDP1's flat parameters, which allow neither the teacher's
EMA nor per-tensor clipping, and it lacks what :class:`MSTRunner` does for checkpoints, resuming and wrong configs.
With ``torch.distributed.fsdp.fully_shard`` every parameter stays a tensor with its own name (a DTensor), so that
optimizer, schedules, hooks and names in checkpoints do not change. It is chosen in the same place as DDP::

    model_wrapper_cfg = dict(type='FullyShard')

Student and teacher are sharded in the same way, so each process updates its own shards of the teacher, without
communication.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from mmengine import dist
from mmengine.device import get_device
from mmengine.model import BaseModule
from mmpretrain.models import BEiTViT, VisionTransformer
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from torch import Tensor, nn

from mstkit.errors import UsageError
from mstkit.models import MaskedBackbone, Pretrainer, TrainedModel, interface_of
from mstkit.structures import TokenEncoder
from mstkit.utils.local_shards import is_spread
from mstkit.utils.private_attributes import make_root_of_sharding

FULLY_SHARD = 'FullyShard'
_SETTINGS = ('type', 'reshard_after_forward', 'bf16_weights')


def wants_sharding(settings: Mapping[str, Any] | None) -> bool:
    """Whether ``model_wrapper_cfg`` asks for sharding."""
    return (settings or {}).get('type', '').removeprefix('mstkit.') == FULLY_SHARD


def shard(model: nn.Module, settings: Mapping[str, Any]) -> nn.Module:
    """Initializes a model equally on every process and shards it over all of them, in place.

    Each block of a backbone is gathered on its own just before it runs and freed afterwards, and so is the rest of a
    backbone. All other parts (necks, decoder, mask token) are gathered for the whole step.

    Args:
        model: not yet trained, and complete on every process.
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
    try:  # imported here, because only sharding needs a torch that has it
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
    except ImportError:
        raise UsageError(f'{FULLY_SHARD} needs torch 2.6 or newer, and this is {torch.__version__}.') from None
    # Backbones return views as tokens; nothing writes into them, so the warning does not apply.
    warnings.filterwarnings('ignore', message=r'FSDP2-wrapped module \(.*\) returned a view tensor')
    model = model.to(get_device())
    if isinstance(model, BaseModule):
        model.init_weights()
    for value in model.state_dict().values():
        dist.broadcast(value)
    mesh = init_device_mesh(get_device(), (dist.get_world_size(),))
    policy = MixedPrecisionPolicy()
    if settings.get('bf16_weights'):
        policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
    branches = interface_of(model).branches()
    guide = model.guide if isinstance(model, Pretrainer) else None
    backbones = [*branches.values(), *([] if guide is None else guide.backbones())]
    for backbone in backbones:
        trained = any(parameter.requires_grad for parameter in backbone.parameters())
        again = bool(settings.get('reshard_after_forward', True)) or not trained
        for block in _blocks(backbone):
            fully_shard(block, mesh=mesh, reshard_after_forward=again, mp_policy=policy)
            if isinstance(block, TransformerEncoderLayer):
                block.ln1.register_forward_pre_hook(functools.partial(_gather, block))
        fully_shard(backbone, mesh=mesh, reshard_after_forward=again)
    if isinstance(model, Pretrainer) and model.teacher is not None and model.teacher.follow == 'before_step':
        # The EMA runs inside the forward pass and needs sharded weights, but parameters of the root stay gathered.
        for parts in (model.followed(), dict(model.teacher.named_children())):
            for part in parts.values():
                if not isinstance(part, FSDPModule):
                    fully_shard(part, mesh=mesh, reshard_after_forward=True)
    fully_shard(model, mesh=mesh)
    # Methods that are called instead of forward: torch has to gather the weights before them too.
    if isinstance(model, TrainedModel):
        register_fsdp_forward_method(model, 'panel')
    for backbone in backbones:
        for name in _forward_methods(backbone):
            register_fsdp_forward_method(backbone, name)
    # Otherwise a backbone would become the root, if k-NN computes features with it before the first step.
    make_root_of_sharding(model)
    return model


def _gather(block: Any, *_: Any) -> None:
    """Gathers a block's weights before its ``ln1``: a masker's attention is computed without the block's forward."""
    if not torch.compiler.is_compiling():  # when compiling, the block's own forward has gathered them
        block.unshard()


def _blocks(backbone: nn.Module) -> list[nn.Module]:
    """The blocks of a vision transformer; empty for another network, which is gathered as a whole."""
    return list(backbone.layers) if isinstance(backbone, VisionTransformer | BEiTViT) else []


def _forward_methods(backbone: nn.Module) -> tuple[str, ...]:
    """Names of what encodes images besides ``forward``."""
    if isinstance(backbone, MaskedBackbone):
        return ('forward_tokens', 'forward_visible', 'forward_layers', 'patch_embeddings')
    return ('forward_tokens',) if isinstance(backbone, TokenEncoder) else ()


def spread_like(whole: Tensor, like: Any) -> Tensor:
    """Shards a whole tensor like the tensor ``like`` of the model; returns it unchanged if that is not sharded."""
    if not is_spread(like):
        return whole
    # imported here, because a torch that is built without distributed training does not have it
    from torch.distributed.tensor import distribute_tensor

    whole = whole.to(like.device, like.dtype)
    # Every process has the whole tensor, so no source rank sends it.
    return distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None)


def spread_optimizer_state(state: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Shards an optimizer's state of whole tensors like the parameters of ``optimizer``."""
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
