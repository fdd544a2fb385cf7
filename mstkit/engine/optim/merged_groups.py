"""Parameters with the same settings in one group of an optimizer; and states of ones that had a group for each."""

from __future__ import annotations

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
        settings = {name: value for name, value in group.items() if name != 'params'}
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
    for group in own:
        old = [place[id(parameter)] for parameter in group['params']]
        if any(_settings(saved[number]) != _settings(saved[old[0]]) for number in old):
            return None  # that run had more distinctions: not this run's optimizer
        first = sum(len(made['params']) for made in groups)
        groups.append({**saved[old[0]], 'params': list(range(first, first + len(old)))})
        entries.update({first + i: state['state'][number] for i, number in enumerate(old) if number in state['state']})
    firsts = [place[id(group['params'][0])] for group in own]
    schedules = [_of_groups(one, firsts, len(saved)) for one in checkpoint.get('param_schedulers', [])]
    return {
        **checkpoint,
        'optimizer': {**state, 'state': entries, 'param_groups': groups},
        'param_schedulers': schedules,
    }


def _settings(group: Mapping[str, Any]) -> dict[str, Any]:
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
