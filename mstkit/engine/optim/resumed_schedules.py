"""Gives an optimizer that is resumed the learning rate, weight decay and the like of this run's config.

Optimizer and schedules of a checkpoint hold those values too, and would bring the old ones back. So what the config of
this run gives each parameter group is kept, compared with what the checkpoint's gave it, and where the two differ the
schedules are run through from their beginning to the place of the checkpoint: the optimizer then has the value that it
would have, had the run begun with this config.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.optim import OptimWrapper, ReduceOnPlateauParamScheduler, _ParamScheduler

from mstkit.engine.optim.step_counts import StepCounter
from mstkit.errors import UsageError
from mstkit.utils.private_attributes import forget_steps, mark_as_counted

Group = dict[str, Any]

_INITIAL = 'initial_'
_IMPLEMENTATION = ('fused', 'foreach', 'capturable', 'differentiable')
_PLACE = ('last_step', '_global_step', '_last_value', 'base_values', 'verbose')  # of a scheduler's state: not its shape


def settings_of(wrapper: OptimWrapper) -> list[Group]:
    """The settings of an optimizer's parameter groups, without the parameters; copies."""
    return [{name: value for name, value in group.items() if name != 'params'} for group in wrapper.param_groups]


def keep_implementation(state: Mapping[str, Any], fresh: Sequence[Group]) -> dict[str, Any]:
    """The state of an optimizer with this run's choice of how a step is computed, by which torch places the state."""
    groups = [
        {**group, **{name: new[name] for name in _IMPLEMENTATION if name in new}}
        for group, new in zip(state['param_groups'], fresh, strict=False)
    ]
    return {**state, 'param_groups': groups}


def changed_settings(fresh: Sequence[Group], resumed: Sequence[Group]) -> dict[str, tuple[Any, Any]]:
    """Which settings of parameter groups this run's config gives another value than the checkpoint's did.

    Args:
        fresh: of the groups as they were built.
        resumed: of the same groups with the checkpoint's state.

    Returns:
        The old and the new value of the first group that differs, by name; for a scheduled one those before any
        schedule.
    """
    changed: dict[str, tuple[Any, Any]] = {}
    for new, old in zip(fresh, resumed, strict=True):
        for name in new:
            scheduled = not name.startswith(_INITIAL) and _INITIAL + name in {**new, **old}
            if not scheduled and not _equal(new[name], old.get(name)):
                changed.setdefault(name.removeprefix(_INITIAL), (old.get(name), new[name]))
    return changed


def shapes_differ(schedulers: Sequence[_ParamScheduler], states: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the schedules of a config run another way than those of a checkpoint."""
    if len(schedulers) != len(states):
        return True
    return any(
        not _equal(scheduler.state_dict().get(name), state.get(name))
        for scheduler, state in zip(schedulers, states, strict=True)
        for name in {*scheduler.state_dict(), *state} - {*_PLACE}
    )


def steps_done(states: Sequence[Mapping[str, Any]], iteration: int, counter: StepCounter) -> tuple[int, int]:
    """How often the schedules of a checkpoint were moved, and how often an epoch moves them.

    Those are optimizer steps, or iterations, as the hook of that run counted.
    """
    counted = [int(state['_global_step']) for state in states if not state.get('by_epoch', True)]
    steps = max(counted, default=counter.step_of(iteration))
    return steps, counter.steps_per_epoch if steps == counter.step_of(iteration) else counter.iters_per_epoch


def take_settings(
    wrapper: OptimWrapper,
    schedulers: Sequence[_ParamScheduler],
    fresh: Sequence[Group],
    steps: int,
    steps_per_epoch: int,
) -> None:
    """Gives the groups of an optimizer, and its schedules, the settings of a config at a place in the run.

    Args:
        wrapper: with the state of a checkpoint.
        schedulers: with the shape that is to be followed; what they say of their place is not used.
        fresh: see :func:`settings_of`, before the checkpoint was loaded.
        steps: that are done, see :func:`steps_done`.
        steps_per_epoch: of which this many are an epoch.

    Raises:
        UsageError: a schedule depends on what was measured on the way.
    """
    if any(isinstance(scheduler, ReduceOnPlateauParamScheduler) for scheduler in schedulers):
        raise UsageError(
            'a schedule that follows measurements (ReduceOnPlateau) cannot be taken up with another learning rate or '
            'shape: resume with the settings of that run, or start a new run with load_from.'
        )
    # Runs may have hundreds of groups, of few kinds: the schedules are run through for one of each.
    kinds: dict[str, int] = {}
    kind_of = [kinds.setdefault(repr(sorted(group.items(), key=str)), len(kinds)) for group in fresh]
    stand_in = _StandIn([_unscheduled(fresh[kind_of.index(kind)]) for kind in range(len(kinds))])
    clones = [_restarted(scheduler, stand_in) for scheduler in schedulers]
    for step in range(steps):
        ends_epoch = (step + 1) % steps_per_epoch == 0
        for clone in clones:
            if not clone.by_epoch or ends_epoch:
                clone.step()
    for group, kind in zip(wrapper.param_groups, kind_of, strict=True):
        group.update(stand_in.param_groups[kind])
    for scheduler, clone in zip(schedulers, clones, strict=True):
        state = {name: value for name, value in vars(clone).items() if name != 'optimizer'}
        for name in ('base_values', '_last_value'):
            state[name] = [state[name][kind] for kind in kind_of]
        scheduler.load_state_dict(state)


class _StandIn:
    """What a scheduler sees of an optimizer."""

    def __init__(self, groups: list[Group]) -> None:
        self.param_groups = groups
        self._global_step = 1  # else it would miss the optimizer's steps

    def step(self) -> None:
        """Nothing; a scheduler looks for its mark."""

    mark_as_counted(step)


def _unscheduled(group: Group) -> Group:
    return {name: group.get(_INITIAL + name, value) for name, value in group.items()}


def _restarted(scheduler: _ParamScheduler, optimizer: Any) -> Any:
    """A scheduler of the same shape before its first step, which it then takes, as when it is built."""
    clone = copy.copy(scheduler)
    clone.optimizer = optimizer
    forget_steps(clone)
    for group in optimizer.param_groups:
        group.setdefault(_INITIAL + clone.param_name, group[clone.param_name])
    clone.base_values = [group[_INITIAL + clone.param_name] for group in optimizer.param_groups]
    clone.step()
    return clone


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return dict(one) == dict(other)
    return bool(one == other)
