"""What torch.compile would launch in place of a function's own operations, from Inductor's plan for a GPU.

Inductor is asked to plan, not to build: the graphs of the forward and of the backward pass are lowered for an H100, and
the nodes that its scheduler has after fusing are counted. No kernel is written, and none runs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor, nn
from torch._functorch.aot_autograd import aot_function, make_boxed_func
from torch._functorch.partitioners import min_cut_rematerialization_partition
from torch._inductor.debug import DebugContext
from torch._inductor.decomposition import select_decomp_table
from torch._inductor.fx_passes.post_grad import post_grad_passes
from torch._inductor.graph import GraphLowering
from torch._inductor.scheduler import NopKernelSchedulerNode
from torch._inductor.virtualized import V
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import _disable_current_modes

from .device import DEVICE, ORIGINAL_GENERATOR

# An H100, for what Inductor asks of a device before it fuses.
H100 = SimpleNamespace(
    name='H100 on paper',
    major=9,
    minor=0,
    multi_processor_count=132,
    total_memory=80 * 2**30,
    warp_size=32,
    max_threads_per_multi_processor=2048,
    max_threads_per_block=1024,
    regs_per_multiprocessor=65536,
    shared_memory_per_block=49152,
    shared_memory_per_block_optin=232448,
    shared_memory_per_multiprocessor=233472,
    L2_cache_size=50 * 2**20,
    gcnArchName='',
)


class Plan(NamedTuple):
    """Launches of a compiled function.

    Attributes:
        forward: of a call.
        backward: of its gradient; 0 where none is asked for.
    """

    forward: int
    backward: int


@contextlib.contextmanager
def _planning() -> Iterator[None]:
    patches = {
        'torch.cuda._get_device_properties': lambda *_: H100,
        'torch.cuda.is_available': lambda: True,
        'torch.cuda.current_device': lambda: 0,
        'torch.cuda.device_count': lambda: 1,
        'torch.cuda.get_rng_state': lambda *_: torch.get_rng_state(),
        'torch.cuda.set_rng_state': lambda *_: None,
        'torch.Generator': ORIGINAL_GENERATOR,  # Inductor asks whether an argument is one
    }
    with contextlib.ExitStack() as stack:
        for name, replacement in patches.items():
            stack.enter_context(mock.patch(name, replacement, create=True))
        yield


def plan(function: Callable[..., Tensor], args: Sequence[Any]) -> Plan:
    """What a compiled function would launch; call it inside of :func:`pretended_machine`.

    Args:
        function: of a module and other values.
        args: of the call, with tensors on the pretended device: a module first.
    """
    module, *others = args
    named = dict(module.named_parameters()) | dict(module.named_buffers())
    places = [place for place, one in enumerate(others) if isinstance(one, Tensor)]
    found = dict(forward=0, backward=0)
    held = _Held(module, function)
    with _disable_current_modes(), _planning(), FakeTensorMode() as fake:

        def flat(*given: Tensor) -> Tensor:
            state = dict(zip((f'module.{name}' for name in named), given, strict=False))
            filled = list(others)
            for place, one in zip(places, given[len(named) :], strict=True):
                filled[place] = one
            return torch.func.functional_call(held, state, tuple(filled))

        def counting(kind: str) -> Callable[..., Any]:
            def compiled(graph: torch.fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
                found[kind] += _launches(graph, inputs, fake, kind == 'backward')
                return make_boxed_func(graph.forward)

            return compiled

        twins = [
            torch.empty_strided(
                one.shape, one.stride(), dtype=one.dtype, device=DEVICE, requires_grad=one.requires_grad
            )
            for one in (*named.values(), *(others[place] for place in places))
        ]
        run = aot_function(
            flat,
            fw_compiler=counting('forward'),
            bw_compiler=counting('backward'),
            partition_fn=min_cut_rematerialization_partition,
            decompositions=select_decomp_table(),
        )
        out = run(*twins)
        if out.requires_grad:
            torch.autograd.grad(
                out, [one for one in twins if one.requires_grad], torch.empty_like(out), allow_unused=True
            )
    return Plan(**found)


class _Held(nn.Module):
    def __init__(self, module: nn.Module, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.module, self.function = module, function

    def forward(self, *args: Any) -> Tensor:
        return self.function(self.module, *args)


def _launches(graph: torch.fx.GraphModule, inputs: Sequence[Any], fake: FakeTensorMode, backward: bool) -> int:
    with V.set_fake_mode(fake):
        post_grad_passes(graph, is_inference=False)
    lowered = GraphLowering(graph, example_inputs=inputs, is_backward=backward)
    with V.set_graph_handler(lowered), V.set_fake_mode(fake), V.set_debug_handler(DebugContext()):
        lowered.run(*inputs)
        lowered._update_scheduler()
        return sum(_launches_something(node) for node in lowered.scheduler.nodes)


def _launches_something(node: Any) -> bool:
    if isinstance(node, NopKernelSchedulerNode):
        return False
    kernel = getattr(node, 'node', None)  # an element of an external kernel's results is none
    return type(kernel).__name__ not in ('MultiOutput', 'AssertScalar', 'DynamicScalar')


def key_of(args: Sequence[Any]) -> tuple[Any, ...]:
    """What tells calls apart that have different plans."""

    def described(one: Any) -> Any:
        if isinstance(one, nn.Module):
            return tuple(described(inner) for inner in (*one.parameters(), *one.buffers()))
        if isinstance(one, Tensor):
            return tuple(one.shape), one.stride(), one.dtype, one.requires_grad
        return one

    state = torch.is_grad_enabled(), torch.is_autocast_enabled('cuda'), torch.get_autocast_dtype('cuda')
    return state, tuple(described(one) for one in args)
