"""Counts what a GPU would be given: kernels, bytes that they read and write, copies, waits."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

from torch import Tensor, nn
from typing_extensions import Self

from . import backward
from .device import COPIES, ORIGINAL_GENERATOR, WAIT, Device, OnDevice, lists_in, tensors_in

# They make or describe memory: no kernel runs. What returns a view of its argument is told by its schema.
NO_KERNEL = {
    'aten::_local_scalar_dense',
    'aten::_unsafe_view',
    'aten::empty',
    'aten::empty_like',
    'aten::empty_strided',
    'aten::lift_fresh',
    'aten::new_empty',
    'aten::new_empty_strided',
    'aten::resize_',
}

COMPILED = 'compiled'  # in place of an operation's name

# torch's kernels over lists (ATen/native/cuda/MultiTensorApply.cuh) take so many tensors, by the number of lists, and
# so many blocks, each of so many numbers; what is longer takes several launches.
MOST_TENSORS = (110, 64, 48, 36, 30)
MOST_BLOCKS = 320
BLOCK = 65536


class Counted(Device):
    """The pretended device, counting.

    Args:
        batch: see :class:`Device`.

    Attributes:
        kernels: launches by operation. An operation of torch counts as one kernel, one over lists as its rule of
            chunks says; what a library launches inside (a reduction in two passes, a convolution) is not known here.
        moved: bytes that kernels read and write: each operand and each result once.
        copied: bytes from the host to the device, and :attr:`copies`, how often.
        waits: how often the host stands still.
    """

    def __init__(self, batch: Sequence[Tensor] = ()) -> None:
        super().__init__(batch)
        self.kernels: Counter[str] = Counter()
        self.moved = self.copied = self.copies = 0
        self.plans: dict[Any, Any] = {}
        self._paused = 0
        self._fused: dict[Any, int] = {}  # nodes of compiled calls: launches of the backward pass at the first of them

    @property
    def launched(self) -> int:
        """Kernels in all."""
        return sum(self.kernels.values())

    @property
    def waits(self) -> int:
        """Events at which the host waits for the device."""
        return sum(event.kind == WAIT for event in self.events)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = self.operations
        result = super().__torch_dispatch__(function, types, args, kwargs)
        if self.operations > before and not self._paused:
            self._count(function, args, kwargs or {}, result)
        return result

    def compiler(self, function: Callable[..., Tensor], **_: Any) -> Callable[..., Tensor]:
        """Takes the place of torch.compile: a function's own operations run, and what its plan launches is counted."""

        with mock.patch('torch.Generator', ORIGINAL_GENERATOR):  # which torch's modules name in annotations
            from .fusion import key_of, plan  # parts of torch's that change with its versions, needed for this alone

        def compiled(*args: Any) -> Tensor:
            key = function, key_of(args)
            if key not in self.plans:
                self.plans[key] = plan(function, args)
            with self._pause():
                out = function(*args)
            self.kernels[COMPILED] += self.plans[key].forward
            if out.grad_fn is not None:
                modules = [one for one in args if isinstance(one, nn.Module)]
                given = [*tensors_in(args), *(weight for module in modules for weight in module.parameters())]
                ends = [one.grad_fn for one in given if one.grad_fn is not None]  # a weight may be a cast of one
                for node in _nodes_between(out.grad_fn, ends):
                    self._fused.setdefault(node, 0)
                self._fused[out.grad_fn] += self.plans[key].backward
            return out

        return compiled

    @contextlib.contextmanager
    def _pause(self) -> Iterator[None]:
        self._paused += 1
        yield
        self._paused -= 1

    def _around(self, node: Any) -> AbstractContextManager:
        if node not in self._fused:
            return contextlib.nullcontext()
        self.kernels[COMPILED] += self._fused[node]
        return self._pause()

    def __enter__(self) -> Self:
        self._before = backward.around
        backward.around = self._around
        return super().__enter__()

    def __exit__(self, *args: Any) -> None:
        backward.around = self._before
        self._fused.clear()
        super().__exit__(*args)

    def _count(self, function: Any, args: Any, kwargs: Any, result: Any) -> None:
        name = function._schema.name
        results = result if isinstance(result, list | tuple) else (result,)
        here = [one for one in tensors_in([*args, *kwargs.values()]) if isinstance(one, OnDevice)]
        made = [one for one in tensors_in(results) if isinstance(one, OnDevice)]
        launches = launches_of(function, args, here, made)
        if launches:
            self.kernels[name.removeprefix('aten::')] += launches
            # Of a list that is written in place nothing comes back.
            self.moved += sum(_bytes(one) for one in (*here, *(made or here)))

    def arrived(self, source: Tensor) -> None:
        """See :meth:`Device.arrived`."""
        self.copies += 1
        self.copied += _bytes(source)


def launches_of(function: Any, args: Sequence[Any], here: Sequence[Tensor], made: Sequence[Tensor]) -> int:
    """Kernels of an operation.

    Args:
        function: of torch, with its schema.
        args: of the call.
        here: operands on the device.
        made: results on the device.
    """
    name = function._schema.name
    if name in NO_KERNEL or _is_view(function):
        return 0
    if name in COPIES and name != 'aten::_foreach_copy_':
        # Within the device: a copy from or to the host is no kernel.
        return int(bool(made) and isinstance(args[0 if name == 'aten::_to_copy' else 1], OnDevice))
    # The steps of a fused optimizer, a number for each tensor, are no list of its kernel's.
    named = zip(function._schema.arguments, args, strict=False)
    lists = lists_in(one for argument, one in named if argument.name != 'state_steps')
    if lists and ('::_foreach_' in name or '::_fused_' in name):
        return chunked([one.numel() for one in lists[0]], len(lists) + bool(made))  # what is made is one more list
    return int(any(one.numel() for one in (*made, *here)))


def chunked(sizes: Sequence[int], lists: int) -> int:
    """Launches of a kernel over lists of tensors.

    Args:
        sizes: numbers in each tensor of a list.
        lists: how many such lists it takes.
    """
    most = MOST_TENSORS[min(lists, len(MOST_TENSORS)) - 1]
    launches = tensors = blocks = 0
    for size in sizes:
        if not size:
            continue
        tensors += 1
        for last in _blocks(size):
            blocks += 1
            if blocks == MOST_BLOCKS or (last and tensors == most):
                launches += 1
                blocks = 0
                tensors = 0 if last else 1  # the rest of this one goes on in the next launch
    return launches + bool(blocks)


def _blocks(size: int) -> Iterator[bool]:
    """Of one tensor; True for its last."""
    count = -(-size // BLOCK)
    for number in range(count):
        yield number == count - 1


def _nodes_between(node: Any, ends: Sequence[Any]) -> set[Any]:
    """The nodes of a graph from one on, before others and before the parameters."""
    found, stack = {node}, [node]
    while stack:
        for after, _ in stack.pop().next_functions:
            if after is not None and after not in found and after not in ends and not hasattr(after, 'variable'):
                found.add(after)
                stack.append(after)
    return found


def _is_view(function: Any) -> bool:
    found = [result.alias_info for result in function._schema.returns]
    return bool(found) and all(one is not None and not one.is_write for one in found)


def _bytes(tensor: Tensor) -> int:
    """Of the memory behind it: what is expanded is read once."""
    wide = (size for size, step in zip(tensor.shape, tensor.stride(), strict=True) if step)
    return math.prod(wide) * tensor.element_size() if tensor.numel() else 0
