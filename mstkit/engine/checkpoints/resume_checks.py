"""Whether a checkpoint can be gone on with: that its parts are what they should be, and fit the run.

All of it happens before anything is written. A part that does not fit ends in one sentence: a run that goes on from
half a state would look like one that goes on.
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
    """Refuses an epoch and an iteration that are none, or that do not lie in this run.

    Args:
        meta: of the checkpoint.
        counter: of this run; None where it is not known yet.
        by_epoch: the run counts epochs.

    Raises:
        UsageError: without the file's name, as all checks here.
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
    """Refuses a state that is not one of this run's optimizer.

    What an optimizer keeps for a parameter is found out by letting one of its class make a step. Parameters that have
    not had a gradient yet have no state, but after a step all of them cannot be without.

    Args:
        state: of the checkpoint.
        wrapper: of this run, without the checkpoint's state.
        iteration: that the checkpoint is at.

    Raises:
        UsageError: it is damaged, empty, or of other parameters.
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
        raise UsageError(f'its optimizer has the state of a parameter {unknown[0]!r} that is in no group')
    kept = _what_is_kept(wrapper.optimizer)
    if kept and iteration > 0 and not any(entries.values()):
        raise UsageError(f'its optimizer state is empty at iteration {iteration}')
    for number, entry in entries.items():
        if not isinstance(entry, Mapping):
            raise UsageError(f'its optimizer has a {type(entry).__name__} as the state of parameter {number}')
        missing = [name for name in kept if entry and name not in entry]
        if missing:
            raise UsageError(f'its optimizer state of parameter {number} has no {missing[0]}')
        for name, is_like_the_parameter in kept.items():
            found, wanted = entry.get(name), parameters[number].shape
            if is_like_the_parameter and entry and getattr(found, 'shape', None) != wanted:
                shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
                raise UsageError(
                    f'its optimizer state {name} of parameter {number} is {shape}, and the parameter {tuple(wanted)}'
                )


def _what_is_kept(optimizer: torch.optim.Optimizer) -> dict[str, bool]:
    """What a kind of optimizer keeps for every parameter, and whether it has the parameter's shape.

    Empty where it keeps nothing, keeps different things for different shapes, or cannot be tried.
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
        except Exception:  # an optimizer of somebody's own may want anything
            return {}
        state = trial.state[parameter]
        found.append(
            {name: value.shape == parameter.shape for name, value in state.items() if isinstance(value, Tensor)}
        )
    return found[0] if found[0] == found[1] else {}


def check_schedules(states: Any, wanted: int | None) -> None:
    """Refuses states of schedules that are none, or not as many as this run has (where that matters).

    Raises:
        UsageError: see above.
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
    """Refuses a message hub that is none.

    Raises:
        UsageError: a part is missing, or is something else.
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
