"""The backward pass without torch's engine, which asks a driver for the streams of each device."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

# What a node of the graph runs in: for those who count.
around: Callable[[Any], AbstractContextManager] = lambda node: contextlib.nullcontext()  # noqa: E731


def run(
    outputs: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    keep_graph: bool,
    create_graph: bool,
    inputs: Sequence[Any] = (),
    allow_unreachable: bool = False,
    accumulate_grad: bool = False,
) -> tuple[Tensor | None, ...]:
    """Takes the place of ``torch.autograd.graph._engine_run_backward``; the arguments are its own.

    Runs the nodes of the graph one after the other, each when all that it waits for has come. What the engine checks
    is checked: a gradient has the device of what it is a gradient of. Hooks of tensors are not called.
    """
    edges = [get_gradient_edge(one) if isinstance(one, Tensor) else one for one in outputs]
    wanted = [get_gradient_edge(one) if isinstance(one, Tensor) else one for one in inputs]
    found: dict[tuple[Any, int], Tensor | None] = {}
    waiting = _waiting(edges)
    runs = set(waiting) if not wanted else _before(waiting, {edge.node for edge in wanted})
    arrived: dict[Any, dict[int, Tensor]] = defaultdict(dict)
    kept: set[int] = set()  # the memory that gradients of parameters have
    with torch.set_grad_enabled(create_graph):
        for edge, gradient in zip(edges, gradients, strict=True):
            _arrive(arrived, edge.node, edge.output_nr, gradient)
        ready = [node for node, count in waiting.items() if not count]
        while ready:
            node = ready.pop()
            own = arrived.pop(node, {})
            for edge in wanted:
                if edge.node is node:
                    found[node, edge.output_nr] = own.get(edge.output_nr)
            if node in runs or accumulate_grad:
                with around(node):
                    results = _results(node, own, accumulate_grad and _leaf_is_wanted(node, wanted), kept)
            else:  # nothing that is asked for lies behind it
                results = [None] * len(node.next_functions)
            for (after, number), gradient in zip(node.next_functions, results, strict=True):
                if after is None:
                    continue
                if gradient is not None:
                    _arrive(arrived, after, number, gradient)
                waiting[after] -= 1
                if not waiting[after]:
                    ready.append(after)
    if accumulate_grad:
        return ()
    made = tuple(found.get((edge.node, edge.output_nr)) for edge in wanted)
    if not allow_unreachable and any(one is None for one in made):
        raise RuntimeError('One of the differentiated Tensors appears to not have been used in the graph')
    return made


def _waiting(edges: Sequence[Any]) -> dict[Any, int]:
    """Every node that is reached, with the number of edges that lead to it."""
    counts: dict[Any, int] = {edge.node: 0 for edge in edges}
    stack = list(counts)
    while stack:
        for after, _ in stack.pop().next_functions:
            if after is not None:
                if after not in counts:
                    counts[after] = 0
                    stack.append(after)
                counts[after] += 1
    return counts


def _before(waiting: dict[Any, int], wanted: set[Any]) -> set[Any]:
    """The nodes that have a wanted one behind them."""
    reached = defaultdict(list)
    for node in waiting:
        for after, _ in node.next_functions:
            if after is not None:
                reached[after].append(node)
    found: set[Any] = set()
    stack = list(wanted)
    while stack:
        for node in reached[stack.pop()]:
            if node not in found:
                found.add(node)
                stack.append(node)
    return found


def _arrive(arrived: dict[Any, dict[int, Tensor]], node: Any, number: int, gradient: Tensor | None) -> None:
    """Adds a gradient to what a node has got, in the shape and type of what it belongs to."""
    if gradient is None:
        return
    described = node._input_metadata[number]
    if gradient.device != described.device:
        raise RuntimeError(f'a gradient on {gradient.device} of a tensor on {described.device}, for {node.name()}')
    if gradient.shape != tuple(described.shape):
        gradient = gradient.sum_to_size(tuple(described.shape))
    if gradient.dtype != described.dtype:
        gradient = gradient.to(described.dtype)
    own = arrived[node]
    own[number] = own[number] + gradient if number in own else gradient


def _kept(gradient: Tensor, variable: Tensor, kept: set[int]) -> Tensor:
    """A gradient as its parameter keeps it: as in the engine, not copied unless its layout differs or it is shared."""
    gradient = gradient.detach()
    storage = getattr(gradient, 'content', gradient).untyped_storage().data_ptr()
    if gradient.stride() != variable.stride() or storage in kept:
        return gradient.clone()
    kept.add(storage)
    return gradient


def _leaf_is_wanted(node: Any, wanted: Sequence[Any]) -> bool:
    return not wanted or any(edge.node is node for edge in wanted)


def _results(node: Any, own: dict[int, Tensor], accumulates: bool, kept: set[int]) -> Sequence[Tensor | None]:
    """One gradient for each of the node's edges."""
    if hasattr(node, 'variable'):  # the end of a path: a parameter
        if accumulates and 0 in own:
            variable = node.variable
            variable.grad = _kept(own[0], variable, kept) if variable.grad is None else variable.grad + own[0]
        return ()
    if not own:
        return [None] * len(node.next_functions)
    described = node._input_metadata
    given = [own.get(number) for number in range(len(described))]
    if not isinstance(node, torch.autograd.function.BackwardCFunction):
        made = node(*given)
        return made if isinstance(made, tuple) else (made,)
    # A Function of Python's gets zeros where nothing came, and has a result for each argument, tensors or not.
    filled = [
        torch.zeros(tuple(one.shape), dtype=one.dtype, device=one.device) if gradient is None else gradient
        for gradient, one in zip(given, described, strict=True)
    ]
    made = node.apply(*filled)
    made = made if isinstance(made, tuple) else (made,)
    needed = iter([one for one, needs in zip(made, node.needs_input_grad, strict=True) if needs])
    return [None if after is None else next(needed) for after, _ in node.next_functions]
