"""Parameters with the same settings in one group of an optimizer; and states of ones that had a group for each."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.optim import OptimWrapper
from torch import nn

Groups = Sequence[Mapping[str, Any]]

_BY_GROUP = ('base_values', '_last_value')  # of a schedule: a value for each group


def merged(groups: Groups) -> list[dict[str, Any]]:
    """Makes one group of those with the same settings, in the order in which the first of them stands.

    Args:
        groups: of parameters, as an optimizer takes them.
    """
    found: dict[str, dict[str, Any]] = {}
    for group in groups:
        settings = group_settings(group)
        same = found.setdefault(repr(sorted(settings.items(), key=str)), {**settings, 'params': []})
        same['params'] += group['params']
    return list(found.values())


def regrouped(checkpoint: Mapping[str, Any], wrapper: OptimWrapper, model: nn.Module) -> dict[str, Any] | None:
    """A checkpoint whose optimizer had a group for each parameter, as that of an optimizer with merged groups.

    Runs that were begun before groups were merged go on so.

    Args:
        checkpoint: with ``optimizer`` and ``param_schedulers``.
        wrapper: of this run, with merged groups.
        model: its model; in its order the parameters had their groups.

    Returns:
        The checkpoint with another optimizer and schedules, or None if it is no such checkpoint.
    """
    state, own = checkpoint.get('optimizer'), wrapper.optimizer.param_groups
    saved = state.get('param_groups') if isinstance(state, Mapping) else None
    if not isinstance(state, Mapping) or not isinstance(saved, Sequence) or not isinstance(state.get('state'), Mapping):
        return None
    owned = {id(parameter) for group in own for parameter in group['params']}
    place = {id(p): number for number, p in enumerate(p for p in model.parameters() if id(p) in owned)}
    each = [group.get('params') if isinstance(group, Mapping) else None for group in saved]
    if len(own) == len(saved) or len(place) != len(saved) or any(each[i] != [i] for i in range(len(each))):
        return None
    groups: list[dict[str, Any]] = []
    entries: dict[int, Any] = {}
    firsts: list[int] = []
    numbers = itertools.count()
    for group in own:
        old = {next(numbers): place[id(parameter)] for parameter in group['params']}
        first, *others = (saved[number] for number in old.values())
        if any(group_settings(one) != group_settings(first) for one in others):
            return None  # that run had more distinctions: not this run's optimizer
        groups.append({**first, 'params': list(old)})
        firsts.append(first['params'][0])
        entries |= {new: state['state'][number] for new, number in old.items() if number in state['state']}
    made = {**checkpoint, 'optimizer': {**state, 'state': entries, 'param_groups': groups}}
    schedules = checkpoint.get('param_schedulers')
    if isinstance(schedules, list):  # what else it may be is refused later
        made['param_schedulers'] = [_of_groups(one, firsts, len(saved)) for one in schedules]
    return made


def group_settings(group: Mapping[str, Any]) -> dict[str, Any]:
    """What an optimizer's group has beside its parameters."""
    return {name: value for name, value in group.items() if name != 'params'}


def _of_groups(schedule: Any, firsts: Sequence[int], count: int) -> Any:
    """A schedule's state with a value for each merged group, and for mmengine's own group behind them."""
    if not isinstance(schedule, Mapping):
        return schedule
    lists = {name: schedule[name] for name in _BY_GROUP if isinstance(schedule.get(name), list)}
    picked = {
        name: [values[i] for i in firsts] + values[count:] for name, values in lists.items() if len(values) >= count
    }
    return {**schedule, **picked}
