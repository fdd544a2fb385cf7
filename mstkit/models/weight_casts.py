"""A step's casts of weights to half precision, a block at a time instead of a weight at a time and use by use.

Under autocast torch casts every weight and every bias by a kernel of its own, and every gradient back: on a GPU, where
a small kernel takes as long as its launch, that is a third of a ViT-S's launches. Here a block's are one list.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mstkit.utils.device_precision import autocast_dtype
from mstkit.utils.local_shards import is_spread
from mstkit.utils.private_attributes import copy_each_, parameter_at, put_parameter


class CastBlock(ABC):  # noqa: B024  (classes become one by its register)
    """A module whose linear layers multiply in autocast's precision, and whose weights nothing else reads in a step.

    A class says that it is one by ``@CastBlock.register``. What is none of these is left to autocast, layer by layer.
    """


class Held(NamedTuple):
    """A weight and where it is: an attribute of a layer."""

    layer: nn.Module
    name: str
    weight: Tensor

    def replace_by(self, other: Tensor) -> None:
        """Puts another tensor there, which need be no parameter."""
        put_parameter(self.layer, self.name, other)


class _Cast(torch.autograd.Function):
    """Casts float32 tensors as one list, and their gradients back as another."""

    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, *weights: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)  # a weight that was not used gets no gradient, as without this
        return tuple(_copies(weights, dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        copies = iter(_copies([one for one in gradients if one is not None], torch.float32))
        return None, *(None if one is None else next(copies) for one in gradients)


def _copies(tensors: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    made = [torch.empty_like(one, dtype=dtype) for one in tensors]
    if made:
        copy_each_(made, list(tensors))
    return made


class WeightCasts:
    """The casts of a model's :class:`CastBlock` blocks.

    As in autocast with its cache a weight is cast once a step, and the gradients of all its uses are added in half
    precision, then cast: losses are the same to the bit, and gradients too where a weight is used once.

    Args:
        model: whose blocks are found once, here; their weights may be replaced later, not their layers.
    """

    def __init__(self, model: nn.Module) -> None:
        blocks = [module for module in model.modules() if isinstance(module, CastBlock)]
        self.blocks = [(block, [one for one in block.modules() if isinstance(one, nn.Linear)]) for block in blocks]
        self._cast: list[Held] = []

    @contextmanager
    def in_half(self) -> Iterator[None]:
        """While it is open, the layers have their weights in autocast's precision, with gradients to the parameters.

        Weights that are sharded over processes stay as they are: FSDP gathers them layer by layer, and may do so in
        half precision itself. So do blocks in evaluation mode, such as those of a tokenizer, which may run without
        autocast inside. Without autocast nothing happens.
        """
        training = [layers for block, layers in self.blocks if block.training and layers]
        dtype = autocast_dtype(training[0][0].weight.device) if training else None
        blocks = [_held(layers) for layers in training] if dtype is not None else []
        every = [held for block in blocks for held in block]
        if dtype is None or any(is_spread(held.weight) for held in every):
            yield
            return
        try:
            self._cast = every
            _cast(blocks, dtype)
            yield
        finally:
            _put_back(every)
            self._cast = []

    def give_back(self, done: nn.Module) -> None:
        """Frees the casts of a module that the step does not use again, such as a teacher whose tokens are known.

        They need as much memory as half of its weights, at the time of which a step needs most. If it is used all the
        same, autocast casts its weights.
        """
        if self._cast:
            layers = set(done.modules())
            _put_back([held for held in self._cast if held.layer in layers])


def _cast(blocks: list[list[Held]], dtype: torch.dtype) -> None:
    """Those with a gradient block by block, so that gradients are ready block by block (DDP); all others at once."""
    learning = torch.is_grad_enabled()
    for block in blocks:
        trained = [held for held in block if learning and held.weight.requires_grad]
        if trained:
            _replace(trained, _Cast.apply(dtype, *(held.weight for held in trained)))
    fixed = [held for block in blocks for held in block if not (learning and held.weight.requires_grad)]
    _replace(fixed, _copies([held.weight for held in fixed], dtype))


def _replace(every: Sequence[Held], others: Sequence[Tensor]) -> None:
    for held, other in zip(every, others, strict=True):
        held.replace_by(other)


def _put_back(every: Sequence[Held]) -> None:
    _replace(every, [held.weight for held in every])


def _held(layers: Sequence[nn.Module]) -> list[Held]:
    """Weights and biases in float32, but those that are computed, such as a weight-normed one."""
    found = ((layer, name, parameter_at(layer, name)) for layer in layers for name in ('weight', 'bias'))
    return [Held(layer, name, one) for layer, name, one in found if one is not None and one.dtype is torch.float32]
