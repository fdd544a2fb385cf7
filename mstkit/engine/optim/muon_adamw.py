"""Muon for the matrices inside transformer blocks, AdamW for everything else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from mstkit.engine.parallel.sharding import spread_like
from mstkit.errors import UsageError
from mstkit.registry import OPTIMIZERS
from mstkit.utils.checks import check_count, check_number
from mstkit.utils.device_precision import has_bf16
from mstkit.utils.local_shards import is_spread, local_parts, whole_of
from mstkit.utils.private_attributes import copy_each_, lerp_each, scaled_sums

# Of the quintic iteration that brings all singular values near 1 (K. Jordan, "Muon", 2024): the steepest slope at 0
# with which five steps still end between about 0.7 and 1.2.
A, B, C = 3.4445, -4.7750, 2.0315
SMALLEST = 1e-7  # of a matrix's norm, against a division by zero


@OPTIMIZERS.register_module()
class MuonAdamW(torch.optim.AdamW):
    """AdamW, but the linear layers of transformer blocks are updated by Muon (K. Jordan et al., 2024).

    Muon replaces the momentum M = U S V^T of a matrix's gradients by U V^T, up to what a few steps of a Newton-Schulz
    iteration leave: all directions of the matrix learn alike, also those whose gradients are small. That is what short
    runs gain by it; docs/en/results_recipes.md has what was measured. For a matrix W of (out, in) elements and its
    gradient G::

        M <- momentum * M + (1 - momentum) * G
        U <- orthogonal(momentum * M + (1 - momentum) * G)
        W <- W - matrix_lr * (weight_decay * W + sqrt(max(1, out / in)) * U)

    as in ``torch.optim.Muon`` with its defaults, and without its need for torch 2.9 or later. Schedules of the learning
    rate scale both rates. With FullyShard every process gathers the matrices of one shape at a time and keeps its part
    of what follows.

    Args:
        params: parameters or groups of them, as of any optimizer.
        matrices: the weights (2-D) that Muon updates; ``TrainableOptimWrapperConstructor`` fills them in with
            :func:`block_matrices` of the model.
        lr: of AdamW.
        matrix_lr: of Muon, at a group whose learning rate is ``lr``; groups with a multiple of it have the same
            multiple of this.
        momentum: of Muon.
        matrix_weight_decay: of Muon; None for ``weight_decay``.
        iterations: of Newton-Schulz.
        others: further arguments of ``torch.optim.AdamW``.

    Raises:
        UsageError: no matrices, one that is not 2-D, or a number out of range.
    """

    def __init__(
        self,
        params: Iterable[Any],
        matrices: Sequence[nn.Parameter] = (),
        lr: float = 1e-3,
        matrix_lr: float = 0.02,
        momentum: float = 0.95,
        matrix_weight_decay: float | None = None,
        iterations: int = 5,
        **others: Any,
    ) -> None:
        check_number('MuonAdamW.lr', lr, above=0)
        check_number('MuonAdamW.matrix_lr', matrix_lr, above=0)
        self.momentum = check_number('MuonAdamW.momentum', momentum, 0, below=1)
        self.iterations = check_count('MuonAdamW.iterations', iterations, 1, 100)
        if matrix_weight_decay is not None:
            check_number('MuonAdamW.matrix_weight_decay', matrix_weight_decay, 0)
        if not matrices:
            raise UsageError(
                'MuonAdamW has no matrices to update: the model has no transformer blocks (take AdamW), or its config '
                "lacks optim_wrapper.constructor='TrainableOptimWrapperConstructor', which finds them"
            )
        for matrix in matrices:
            if matrix.dim() != 2:
                raise UsageError(f'MuonAdamW.matrices has a parameter of shape {tuple(matrix.shape)}: give 2-D weights')
        chosen = {id(matrix) for matrix in matrices}
        super().__init__(_split(params, chosen), lr=lr, **others)
        for group in self.param_groups:
            if group['muon']:
                group['lr'] = matrix_lr * group['lr'] / lr
                if matrix_weight_decay is not None and group['weight_decay']:
                    group['weight_decay'] = matrix_weight_decay

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Updates all parameters that have a gradient."""
        every = self.param_groups
        try:
            self.param_groups = [group for group in every if not group['muon']]
            result = super().step(closure)
        finally:
            self.param_groups = every
        due = [(p, group) for group in every if group['muon'] for p in group['params'] if p.grad is not None]
        # Matrices of one shape go through the iteration together: fewer and larger products.
        due.sort(key=lambda pair: tuple(pair[0].shape))
        for _, pairs in groupby(due, key=lambda pair: (pair[0].shape, pair[0].device)):
            self._update(list(pairs))
        return result

    def _update(self, pairs: list[tuple[nn.Parameter, dict[str, Any]]]) -> None:
        """Updates matrices of one shape, with the groups that they belong to."""
        weights = [weight for weight, _ in pairs]
        gradients: list[Tensor] = [weight.grad for weight in weights]  # type: ignore[misc]
        # The scaler of fp16 sets these two for a step of a fused AdamW; both stay on the device, so that nothing waits.
        scale, overflow = getattr(self, 'grad_scale', None), getattr(self, 'found_inf', None)
        if scale is not None:
            gradients = [gradient / scale for gradient in gradients]
        for weight in weights:
            state = self.state[weight]
            if not state:
                state.update(step=torch.tensor(0.0), momentum_buffer=torch.zeros_like(weight))
            state['step'] += 1  # as AdamW has it, which looks for it when a checkpoint is loaded
        buffers = [self.state[weight]['momentum_buffer'] for weight in weights]
        # By lists, of which each operation is a kernel for all matrices of the shape; lists have no sharded tensors.
        moved, seen = local_parts(buffers), local_parts(gradients)
        _put(moved, lerp_each(moved, seen, 1 - self.momentum), overflow)
        if is_spread(weights[0]):
            ahead = [gradient.lerp(buffer, self.momentum) for gradient, buffer in zip(gradients, buffers, strict=True)]
        else:
            ahead = lerp_each(gradients, buffers, self.momentum)
        updates = orthogonal(torch.stack([whole_of(one) for one in ahead]), self.iterations)
        rows, columns = weights[0].shape
        stretch = max(1.0, rows / columns) ** 0.5
        steps = [
            spread_like(update, weight) for update, weight in zip(updates.to(weights[0].dtype), weights, strict=True)
        ]
        rates = [group['lr'] for _, group in pairs]
        decays = [1 - group['lr'] * group['weight_decay'] for _, group in pairs]
        changed, steps = local_parts(weights), local_parts(steps)
        for rate in dict.fromkeys(rates):
            same = [place for place, one in enumerate(rates) if one == rate]
            old, step = ([of[place] for place in same] for of in (changed, steps))
            decay = [decays[place] for place in same]
            _put(old, scaled_sums(old, decay, step, -rate * stretch), overflow)


def _put(tensors: list[Tensor], values: list[Tensor], overflow: Tensor | None) -> None:
    """Writes values into tensors, unless gradients overflowed."""
    if overflow is not None:
        values = [torch.where(overflow == 0, one, tensor) for tensor, one in zip(tensors, values, strict=True)]
    copy_each_(tensors, values)


def orthogonal(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Brings the singular values of matrices near 1: between about 0.7 and 1.2 unless they are nearly 0.

    In bf16, where the device multiplies it in hardware.

    Args:
        matrices: (N, R, C).
        iterations: of Newton-Schulz.

    Returns:
        (N, R, C).
    """
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices.to(torch.bfloat16 if has_bf16(matrices.device) else torch.float32)
    x = x if wide else x.mT
    x = x / x.flatten(1).norm(dim=1).clamp(min=SMALLEST)[:, None, None]
    for _ in range(iterations):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=B, alpha=C)
        x = torch.baddbmm(x, polynomial, x, beta=A)
    return x if wide else x.mT


def block_matrices(model: nn.Module) -> list[nn.Parameter]:
    """The trained weights of linear layers in the transformer blocks of a model, in their order.

    A block is a module with an attention among its children, named ``attn`` or ``cross_attn`` or the like, as in our
    networks and in timm's, mmpretrain's and mmdet's. Patch embeddings, projection heads, prototypes and predictions
    are no part of one: Muon is for matrices between hidden features.
    """
    found: dict[int, nn.Parameter] = {}
    for module in model.modules():
        if any('attn' in name for name, _ in module.named_children()):
            for part in module.modules():
                if isinstance(part, nn.Linear) and part.weight.requires_grad:
                    found[id(part.weight)] = part.get_parameter('weight')
    return list(found.values())


def _split(params: Iterable[Any], chosen: set[int]) -> list[dict[str, Any]]:
    """Groups in which either all parameters are Muon's (``muon`` is True) or none is."""
    given = list(params)
    groups = given if given and isinstance(given[0], Mapping) else [dict(params=given)]
    split: list[dict[str, Any]] = []
    for group in groups:
        inside = group['params']
        inside = [inside] if isinstance(inside, Tensor) else list(inside)
        for muon in (False, True):
            part = [parameter for parameter in inside if (id(parameter) in chosen) is muon]
            if part:
                split.append({**group, 'params': part, 'muon': muon})
    return split


def needs_matrices(optimizer: Mapping[str, Any]) -> bool:
    """Whether the config of an optimizer is :class:`MuonAdamW`'s, whose ``matrices`` come from the model."""
    return OPTIMIZERS.get(str(optimizer.get('type'))) is MuonAdamW and 'matrices' not in optimizer
