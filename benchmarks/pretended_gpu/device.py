"""A CUDA device on paper: tensors that say they are on ``cuda:0``, whose values the CPU computes.

torch's own fake tensors (FakeTensorMode) have no values, so a step ends at its first ``nonzero()``, and their backward
pass asks a driver for streams. These have both: an operation on them runs on the CPU, its result says ``cuda:0``, and
what a GPU would refuse or wait for is written down as an :class:`Event`, with the place that caused it.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import mmengine
import mmpretrain
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

import mstkit

from . import attention, backward

DEVICE, HOST = torch.device('cuda', 0), torch.device('cpu')
PACKAGES = {Path(str(package.__file__)).parent: package.__name__ for package in (mstkit, mmpretrain, mmengine, torch)}

OWN = {__file__, attention.__file__, backward.__file__}
OTHERS = 2.5  # the rank of a place that is in none of them: before torch's own

WAIT = 'wait'  # the host stands still until the device has reached this place
COPY = 'copy'  # from memory that is not pinned: the host waits for the copy, and for what is before it
MIXED = 'mixed devices'  # an error on a GPU
GENERATOR = 'generator of another device'  # an error on a GPU

# Their result, or its shape, is known to the device alone.
READS = {
    'aten::_local_scalar_dense',
    'aten::_linalg_check_errors',
    'aten::_unique2',
    'aten::bincount',
    'aten::equal',
    'aten::masked_select',
    'aten::nonzero',
    'aten::unique_consecutive',
    'aten::unique_dim',
}
INDEXED = {'aten::index', 'aten::index_put', 'aten::index_put_', 'aten::_index_put_impl_'}
COPIES = {'aten::_to_copy', 'aten::copy_', 'aten::copy', 'aten::_foreach_copy_'}


class Event(NamedTuple):
    """What a GPU would refuse or wait for.

    Attributes:
        kind: :data:`WAIT`, :data:`COPY`, :data:`MIXED` or :data:`GENERATOR`.
        operation: of torch.
        file: of the innermost frame in mstkit, or in the library that did it, or in a test.
        function: in that file.
        line: in that file.
    """

    kind: str
    operation: str
    file: str
    function: str
    line: int

    def __str__(self) -> str:
        return f'{self.kind}: {self.operation} at {self.file}:{self.line}, {self.function}'


class OnDevice(Tensor):
    """A tensor that says it is on the device; ``content`` has its values."""

    content: Tensor

    @staticmethod
    def __new__(cls, values: Tensor) -> OnDevice:
        made = Tensor._make_wrapper_subclass(
            cls,
            values.size(),
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            layout=values.layout,
            device=DEVICE,
        )
        made.content = values
        return made

    def __tensor_flatten__(self) -> tuple[list[str], None]:  # by this, Module.to keeps a parameter's identity
        return ['content'], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], *_: Any) -> OnDevice:
        return OnDevice(inner['content'])

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        raise RuntimeError(f'{function} on a tensor of the pretended device, outside of it')

    def tolist(self) -> Any:  # torch's refuses subclasses
        return self.cpu().tolist()

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f'OnDevice({self.content!r})'


class DeviceGenerator(torch.Generator):
    """A generator that says it is on the device; it draws the numbers of the CPU's."""

    device = DEVICE


def _address(generator: Any) -> int:
    return generator._cdata


def made_generator(device: Any = 'cpu') -> torch.Generator:
    """``torch.Generator`` of the pretended machine."""
    if torch.device(device).type != 'cuda':
        return ORIGINAL_GENERATOR()
    made = DeviceGenerator()
    MADE[_address(made)] = made
    return made


ORIGINAL_GENERATOR = torch.Generator
MADE: dict[int, DeviceGenerator] = {}  # by their address: an operation gets another object for the same generator


@functools.cache
def _written(function: Any) -> tuple[tuple[int, str] | None, ...]:
    """For each result, which argument it is that was written to."""
    sets = {}
    for place, argument in enumerate(function._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            sets.update({name: (place, argument.name) for name in argument.alias_info.before_set})
    found = []
    for result in function._schema.returns:
        writes = result.alias_info is not None and result.alias_info.is_write
        found.append(next(sets[name] for name in result.alias_info.before_set) if writes else None)
    return tuple(found)


def tensors_in(values: Iterable[Any]) -> Iterator[Tensor]:
    """Tensors among values, and in lists among them."""
    for one in values:
        if isinstance(one, Tensor):
            yield one
        elif isinstance(one, list | tuple):
            yield from (inner for inner in one if isinstance(inner, Tensor))


def lists_in(values: Iterable[Any]) -> list[Sequence[Tensor]]:
    """The lists of tensors among values."""
    return [one for one in values if isinstance(one, list | tuple) and one and isinstance(one[0], Tensor)]


def _plain(value: Any) -> Any:
    if isinstance(value, OnDevice):
        return value.content
    if isinstance(value, list | tuple):
        return [inner.content if isinstance(inner, OnDevice) else inner for inner in value]
    return value


def _is_pinned(tensor: Tensor) -> bool:
    return getattr(tensor, 'says_pinned', False)  # set below; tensors have no such attribute otherwise


class Device(TorchDispatchMode):
    """Runs what is inside on the pretended device, and writes down its events.

    Args:
        batch: host tensors whose copy to the device is no event: a batch has to come over.

    Attributes:
        events: in their order.
        operations: how many ran on the device.
    """

    def __init__(self, batch: Sequence[Tensor] = ()) -> None:
        super().__init__()
        self.batch = {tensor.untyped_storage().data_ptr() for tensor in batch}
        self.events: list[Event] = []
        self.operations = 0

    def note(self, kind: str, operation: str) -> None:
        """Writes an event down, with the innermost place in mstkit, else in a library, else anywhere."""
        best: tuple[float, Any, str] | None = None
        frame: Any = sys._getframe(1)
        while frame is not None:
            name = frame.f_code.co_filename
            if name not in OWN:
                rank = next((i for i, folder in enumerate(PACKAGES) if name.startswith(f'{folder}/')), OTHERS)
                if best is None or rank < best[0]:
                    best = (rank, frame, name)
                if rank == 0:
                    break
            frame = frame.f_back
        assert best is not None
        _, frame, name = best
        folder = next((folder for folder in PACKAGES if name.startswith(f'{folder}/')), Path(name).parent)
        file = Path(name).relative_to(folder.parent).as_posix()
        self.events.append(Event(kind, operation, file, frame.f_code.co_name, frame.f_lineno))

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = function._schema.name
        tensors = [*tensors_in(args), *tensors_in(kwargs.values())]
        here = [one for one in tensors if isinstance(one, OnDevice)]
        asked = kwargs.get('device')
        to_device = asked is not None and torch.device(asked).type == 'cuda'
        if name == 'aten::is_pinned':
            return _is_pinned(args[0])
        if name == 'aten::_pin_memory':
            made = args[0].clone()
            made.says_pinned = True
            return made
        if not here and not to_device:
            return function(*args, **kwargs)
        self.operations += 1
        self._look(name, args, kwargs, tensors, here, to_device)
        generator = kwargs.get('generator')
        if generator is not None and _address(generator) not in MADE:
            self.note(GENERATOR, name)
        plain_args = [_plain(one) for one in args]
        plain_kwargs = {key: _plain(one) for key, one in kwargs.items()}
        if 'device' in plain_kwargs and asked is not None:
            plain_kwargs['device'] = HOST
        plain_kwargs.pop('pin_memory', None)
        if name in ('aten::_softmax', 'aten::_log_softmax') and plain_args[2]:  # in one kernel from half to float
            plain_args[0], plain_args[2] = plain_args[0].float(), False
        cast = None
        if name in ('aten::_softmax_backward_data', 'aten::_log_softmax_backward_data'):  # and back
            cast, plain_args[3] = plain_args[3], plain_args[0].dtype
        result = attention.KERNELS.get(name, function)(*plain_args, **plain_kwargs)
        if cast is not None:
            result = result.to(cast)
        leaves = asked is not None and not to_device
        if leaves:
            return result
        if name in ('aten::copy_', 'aten::copy') and not isinstance(args[0], OnDevice):
            return args[0] if name == 'aten::copy_' else result
        return self._wrapped(function, result, args, kwargs)

    def _wrapped(self, function: Any, result: Any, args: Any, kwargs: Any) -> Any:
        written = _written(function)
        if any(place is not None for place in written):
            single = not isinstance(result, tuple | list)
            results = [result] if single else list(result)
            for number, place in enumerate(written):
                if place is not None:
                    results[number] = args[place[0]] if place[0] < len(args) else kwargs[place[1]]
                elif isinstance(results[number], Tensor):
                    results[number] = OnDevice(results[number])
            return results[0] if single else type(result)(results)
        if isinstance(result, Tensor):
            return OnDevice(result)
        return tree_map_only(Tensor, OnDevice, result)

    def _look(
        self, name: str, args: Any, kwargs: Any, tensors: list[Tensor], here: list[OnDevice], to_device: bool
    ) -> None:
        """Writes down the events of an operation, before it runs."""
        if name in COPIES:
            self._look_at_copy(name, args, kwargs, here, to_device)
            return
        others = (
            [one for one in tensors if not isinstance(one, OnDevice) and one.dim()] if len(here) < len(tensors) else []
        )
        if name in INDEXED:
            indices = [one for one in args[1] if one is not None]
            filled = name != 'aten::index' and args[2].numel() == 1 and not (len(args) > 3 and args[3])
            if isinstance(args[0], OnDevice):
                if any(one.dtype in (torch.bool, torch.uint8) for one in indices) and not filled:
                    self.note(WAIT, f'{name} by a mask')
                for one in indices:
                    if not isinstance(one, OnDevice) and one.dim():
                        self.note(COPY, f'{name} by an index of the host')
                others = [one for one in others if not any(one is index for index in indices)]
        elif name in READS or (name == 'aten::repeat_interleave' and kwargs.get('output_size') is None):
            self.note(WAIT, name)
        if others and here and not name.startswith('aten::_foreach_'):
            self.note(MIXED, name)
        elif others and here:  # lists: what stands at one place goes together
            self._look_at_lists(name, args)

    def _look_at_lists(self, name: str, args: Any) -> None:
        for together in zip(*lists_in(args), strict=False):
            kinds = {isinstance(one, OnDevice) for one in together if one.dim() or isinstance(one, OnDevice)}
            if len(kinds) > 1:
                self.note(MIXED, name)
                return

    def _look_at_copy(self, name: str, args: Any, kwargs: Any, here: list[OnDevice], to_device: bool) -> None:
        if name == 'aten::_foreach_copy_':
            pairs = list(zip(args[0], args[1], strict=True))
        elif name == 'aten::_to_copy':
            to = to_device or (kwargs.get('device') is None and isinstance(args[0], OnDevice))
            pairs = [(OnDevice if to else Tensor, args[0])]
        else:
            pairs = [(args[0], args[1])]
        for target, source in pairs:
            arrives = target is OnDevice or isinstance(target, OnDevice)
            leaves = isinstance(source, OnDevice)
            if leaves and not arrives:
                self.note(WAIT, f'{name} to the host')
            elif arrives and not leaves:
                self.arrived(source)
                if not self._may_come_over(source, args, kwargs):
                    self.note(COPY, f'{name} to the device')

    def arrived(self, source: Tensor) -> None:
        """Called for each tensor of the host that is copied to the device; for those who count."""

    def _may_come_over(self, source: Tensor, args: Any, kwargs: Any) -> bool:
        if source.untyped_storage().data_ptr() in self.batch:
            return True
        asynchronous = kwargs.get('non_blocking', len(args) > 2 and args[2])
        return bool(_is_pinned(source) and asynchronous)


@contextlib.contextmanager
def pretended_machine() -> Iterator[None]:
    """torch as on a machine with a GPU, as far as the step of a training asks it."""
    torch._C._ensureCUDADeviceGuardSet()
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=) makes it on the host and copies it
    # torch.optim hides its module of this name.
    optimizer = importlib.import_module('torch.optim.optimizer')
    kinds = [*optimizer._foreach_supported_types, OnDevice]
    patches: list[tuple[str, Any]] = [
        ('torch.cuda._lazy_init', lambda: None),
        ('torch.cuda.amp.common.amp_definitely_not_available', lambda: False),
        ('torch.cuda.is_bf16_supported', lambda *_, **__: True),
        ('torch.cuda.get_device_capability', lambda *_: (9, 0)),
        ('torch.autograd._engine_run_backward', backward.run),
        ('torch.nn.functional.scaled_dot_product_attention', attention.attend),
    ]
    try:
        with contextlib.ExitStack() as stack:
            for name, replacement in patches:
                stack.enter_context(mock.patch(name, replacement))
            for module in [torch, *(module for name, module in sys.modules.items() if name.startswith('mstkit.'))]:
                if vars(module).get('Generator') is ORIGINAL_GENERATOR:
                    stack.enter_context(mock.patch.object(module, 'Generator', made_generator))
            stack.enter_context(mock.patch.object(optimizer, '_foreach_supported_types', kinds))
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
            yield
    finally:
        torch._C._set_only_lift_cpu_tensors(before)
        MADE.clear()


def moved(module: torch.nn.Module) -> torch.nn.Module:
    """A module on the device; call it inside of :func:`pretended_machine`."""
    with Device():
        return module.to(DEVICE)


def events_of(act: Callable[[], Any], batch: Sequence[Tensor] = ()) -> list[Event]:
    """What happens on the device while ``act`` runs."""
    with Device(batch) as device:
        act()
    assert device.operations, 'nothing ran on the device'
    return device.events
