"""Gives a resumed optimizer the learning rate, weight decay and other settings of this run's config.

The optimizer and schedules in a checkpoint hold the settings of the earlier config, and loading them would undo the
new ones. So the settings of this config are kept and compared with the checkpoint's. Where they differ, the new
schedules are replayed from the first step to the checkpoint's, which gives the values of a run that had this config
from the start.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.optim import OptimWrapper, ReduceOnPlateauParamScheduler, _ParamScheduler

from mstkit.engine.optim.merged_groups import group_settings
from mstkit.engine.optim.step_counts import StepCounter
from mstkit.errors import UsageError
from mstkit.utils.private_attributes import forget_steps, mark_as_counted

Group = dict[str, Any]

_INITIAL = 'initial_'
_IMPLEMENTATION = ('fused', 'foreach', 'capturable', 'differentiable')
# In a scheduler's state: how far it is, as opposed to the shape of its curve.
_POSITION_KEYS = ('last_step', '_global_step', '_last_value', 'base_values', 'verbose')


def settings_of(wrapper: OptimWrapper) -> list[Group]:
    """Copies the settings of an optimizer's parameter groups, without the parameters."""
    return [group_settings(group) for group in wrapper.param_groups]


def keep_implementation(state: Mapping[str, Any], fresh: Sequence[Group]) -> dict[str, Any]:
    """Replaces ``fused``, ``foreach`` etc. in an optimizer's state by this run's, as torch places the state by them."""
    groups = [
        {**group, **{name: new[name] for name in _IMPLEMENTATION if name in new}}
        for group, new in zip(state['param_groups'], fresh, strict=False)
    ]
    return {**state, 'param_groups': groups}


def changed_settings(fresh: Sequence[Group], resumed: Sequence[Group]) -> dict[str, tuple[Any, Any]]:
    """Compares the settings of parameter groups in this run's config and in the checkpoint.

    Args:
        fresh: settings of the groups as built from this run's config.
        resumed: settings of the same groups in the checkpoint.

    Returns:
        For each name of a changed setting, its old and new value in the first group where they differ; a scheduled
        setting is compared at its value before any schedule.
    """
    changed: dict[str, tuple[Any, Any]] = {}
    for new, old in zip(fresh, resumed, strict=True):
        for name in new:
            scheduled = not name.startswith(_INITIAL) and _INITIAL + name in {**new, **old}
            if not scheduled and not _equal(new[name], old.get(name)):
                changed.setdefault(name.removeprefix(_INITIAL), (old.get(name), new[name]))
    return changed


def shapes_differ(schedulers: Sequence[_ParamScheduler], states: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the schedules of a config differ in number or settings (not in position) from a checkpoint's."""
    if len(schedulers) != len(states):
        return True
    return any(
        not _equal(scheduler.state_dict().get(name), state.get(name))
        for scheduler, state in zip(schedulers, states, strict=True)
        for name in {*scheduler.state_dict(), *state} - {*_POSITION_KEYS}
    )


def steps_done(states: Sequence[Mapping[str, Any]], iteration: int, counter: StepCounter) -> tuple[int, int]:
    """The steps that the schedules of a checkpoint have taken, and the steps that they take per epoch.

    These are optimizer steps, or iterations if the checkpoint's run counted schedules in iterations.
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
    """Sets an optimizer and its schedules to this run's settings after a number of steps.

    Args:
        wrapper: the optimizer wrapper, with the state of a checkpoint; changed in place.
        schedulers: this run's schedules; their state is overwritten.
        fresh: this run's settings, from :func:`settings_of` before the checkpoint was loaded.
        steps: steps that are done, see :func:`steps_done`.
        steps_per_epoch: see :func:`steps_done`.

    Raises:
        UsageError: a schedule depends on validation results (``ReduceOnPlateau``).
    """
    if any(isinstance(scheduler, ReduceOnPlateauParamScheduler) for scheduler in schedulers):
        raise UsageError(
            'a schedule that depends on validation results (ReduceOnPlateau) cannot be resumed with another learning '
            'rate or shape: resume with the settings of that run, or start a new run with load_from.'
        )
    # There may be hundreds of groups with few distinct settings: the schedules are replayed once for each of these.
    kinds: dict[str, int] = {}
    kind_of = [kinds.setdefault(repr(sorted(group.items(), key=str)), len(kinds)) for group in fresh]
    fake_optimizer = _FakeOptimizer([_unscheduled(fresh[kind_of.index(kind)]) for kind in range(len(kinds))])
    clones = [_restarted(scheduler, fake_optimizer) for scheduler in schedulers]
    for step in range(steps):
        ends_epoch = (step + 1) % steps_per_epoch == 0
        for clone in clones:
            if not clone.by_epoch or ends_epoch:
                clone.step()
    for group, kind in zip(wrapper.param_groups, kind_of, strict=True):
        group.update(fake_optimizer.param_groups[kind])
    for scheduler, clone in zip(schedulers, clones, strict=True):
        state = {name: value for name, value in vars(clone).items() if name != 'optimizer'}
        for name in ('base_values', '_last_value'):
            state[name] = [state[name][kind] for kind in kind_of]
        scheduler.load_state_dict(state)


class _FakeOptimizer:
    """The part of an optimizer that a scheduler uses."""

    def __init__(self, groups: list[Group]) -> None:
        self.param_groups = groups
        self._global_step = 1  # else the scheduler warns that the optimizer has not stepped

    def step(self) -> None:
        """Does nothing; a scheduler checks that it is marked as counted."""

    mark_as_counted(step)


def _unscheduled(group: Group) -> Group:
    return {name: group.get(_INITIAL + name, value) for name, value in group.items()}


def _restarted(scheduler: _ParamScheduler, optimizer: Any) -> Any:
    """A copy of a scheduler at the start of the run, as if just built for ``optimizer``."""
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
