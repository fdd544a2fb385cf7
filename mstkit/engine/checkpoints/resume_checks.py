"""Checks that the parts of a checkpoint are valid and fit the run that resumes it.

All checks run before anything is written. A part that does not fit is an error: a run that resumed with an incomplete
state would look like a correctly resumed one.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.logging import HistoryBuffer
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from mstkit.engine.optim.step_counts import StepCounter
from mstkit.errors import UsageError


def check_place(meta: Mapping[str, Any], counter: StepCounter | None = None, by_epoch: bool = True) -> None:
    """Refuses an invalid epoch or iteration, or one beyond the end of this run.

    Args:
        meta: of the checkpoint.
        counter: of this run; None if not known yet.
        by_epoch: the run counts epochs.

    Raises:
        UsageError: the message does not name the file, which is true of all checks in this module.
    """
    for name in ('epoch', 'iter'):
        value = meta[name]
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise UsageError(f'its {name} is {value!r}, not a whole number from 0')
    if counter is None:
        return
    epoch, iteration = meta['epoch'], meta['iter']
    per_epoch, total = counter.iters_per_epoch, counter.iters_per_epoch * counter.max_epochs
    if by_epoch and epoch > counter.max_epochs:
        raise UsageError(
            f'it is at epoch {epoch} and this run ends after {counter.max_epochs}: give --epochs {epoch} or more'
        )
    if not by_epoch and iteration > total:
        raise UsageError(
            f'it is at iteration {iteration} and this run ends after {total}: give --iterations {iteration} or more'
        )
    if by_epoch and not epoch * per_epoch <= iteration <= (epoch + 1) * per_epoch:
        raise UsageError(
            f'its iteration {iteration} does not lie in its epoch {epoch}, which has the iterations '
            f'{epoch * per_epoch} to {(epoch + 1) * per_epoch}'
        )


def check_optimizer(state: Any, wrapper: OptimWrapper, iteration: int) -> None:
    """Refuses an optimizer state that does not fit this run's optimizer.

    The tensors that an optimizer keeps per parameter are found by a step of another optimizer of the same class.
    Single parameters may have no state, if they never had a gradient; but after the first iteration some have.

    Args:
        state: the optimizer state in the checkpoint.
        wrapper: of this run, without the checkpoint's state.
        iteration: of the checkpoint.

    Raises:
        UsageError: the state is damaged, empty, or of other parameters.
    """
    groups = state.get('param_groups') if isinstance(state, Mapping) else None
    entries = state.get('state') if isinstance(state, Mapping) else None
    if not _is_list_of(groups, Mapping) or not isinstance(entries, Mapping):
        raise UsageError('its optimizer state has no list of parameter groups, or no state')
    assert groups is not None
    own = wrapper.optimizer.param_groups
    sizes = [len(group['params']) if _is_list_of(group.get('params'), int) else -1 for group in groups]
    if sizes != [len(group['params']) for group in own]:
        raise UsageError(
            'its optimizer has other parameter groups than this run; resume with the optim_wrapper settings of that run'
        )
    parameters = {
        number: parameter
        for group, mine in zip(groups, own, strict=True)
        for number, parameter in zip(group['params'], mine['params'], strict=True)
    }
    unknown = [number for number in entries if number not in parameters]
    if unknown:
        raise UsageError(f'its optimizer state has an entry for parameter {unknown[0]!r}, which is in no group')
    kept = _state_tensors(wrapper.optimizer)
    if kept and iteration > 0 and not any(entries.values()):
        raise UsageError(f'its optimizer state is empty at iteration {iteration}')
    for number, entry in entries.items():
        if not isinstance(entry, Mapping):
            raise UsageError(f'its optimizer state of parameter {number} is a {type(entry).__name__}, not a dict')
        missing = [name for name in kept if entry and name not in entry]
        if missing:
            raise UsageError(f'its optimizer state of parameter {number} has no {missing[0]}')
        for name, is_like_the_parameter in kept.items():
            found, wanted = entry.get(name), parameters[number].shape
            if is_like_the_parameter and entry and not (isinstance(found, Tensor) and found.shape == wanted):
                shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
                raise UsageError(
                    f'its optimizer state {name} of parameter {number} is {shape}, but the parameter {tuple(wanted)}'
                )


def _state_tensors(optimizer: torch.optim.Optimizer) -> dict[str, bool]:
    """The names of tensors that an optimizer's class keeps per parameter, and whether they have its shape.

    Empty if it keeps none, if they depend on the parameter's shape, or if a trial step fails.
    """
    found: list[dict[str, bool]] = []
    for shape in ((3,), (3, 5)):
        parameter = nn.Parameter(torch.ones(shape))
        parameter.grad = torch.ones(shape)
        arguments = inspect.signature(type(optimizer).__init__).parameters
        defaults = {name: value for name, value in optimizer.defaults.items() if name in arguments and name != 'fused'}
        try:
            trial = type(optimizer)([parameter], **defaults)
            trial.step()
        except Exception:  # a third-party optimizer may fail in any way
            return {}
        state = trial.state[parameter]
        found.append(
            {name: value.shape == parameter.shape for name, value in state.items() if isinstance(value, Tensor)}
        )
    return found[0] if found[0] == found[1] else {}


def check_schedules(states: Any, wanted: int | None) -> None:
    """Refuses invalid states of schedules, and another number of them than ``wanted`` (None: any number).

    Raises:
        UsageError: a state is invalid, or their number differs.
    """
    if not _is_list_of(states, Mapping):
        raise UsageError('its schedules (param_schedulers) are not a list of states')
    for number, state in enumerate(states):
        for name in ('last_step', '_global_step'):
            if isinstance(state.get(name), bool) or not isinstance(state.get(name), int):
                raise UsageError(f'its schedule {number} has no {name}')
    if wanted is not None and len(states) != wanted:
        raise UsageError(
            f'it holds {len(states)} schedules and this config has {wanted}: resume with the param_scheduler of that '
            'run'
        )


def check_hub(hub: Any) -> None:
    """Refuses an invalid state of the message hub.

    Raises:
        UsageError: a part is missing or has the wrong type.
    """
    parts = [hub.get(name) if isinstance(hub, Mapping) else None for name in ('log_scalars', 'runtime_info')]
    if not all(isinstance(part, Mapping) for part in parts):
        raise UsageError('its message_hub is not a dict of log_scalars and runtime_info')
    for name, history in (parts[0] or {}).items():
        if isinstance(history, HistoryBuffer):
            continue
        values = [history.get(key) if isinstance(history, Mapping) else None for key in ('values', 'counts')]
        if not all(isinstance(value, Tensor) and value.ndim == 1 for value in values) or (
            len(values[0]) != len(values[1])  # type: ignore[arg-type]
        ):
            raise UsageError(f'the history of {name} in its message_hub is not a list of values and counts')


def _is_list_of(value: Any, kind: type) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(one, kind) for one in value)
