"""Parameter schedules of a run: counted in optimizer steps, and made to reach the learning rate of the config.

mmengine's schedules multiply the value that they find. A warm-up of a single step multiplies it by its start factor and
never gives it back, so that the whole run is trained at a billionth of its learning rate; one that outlasts the run, or
the first decay, stops on the way. Both happen with small data sets, where an epoch is a step or two.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from mmengine.optim import OptimWrapper, _ParamScheduler
from mmengine.registry import PARAM_SCHEDULERS
from torch import nn

from mstkit.engine.optim.step_counts import StepCounter
from mstkit.errors import UsageError

REACHED = 0.9  # a schedule whose highest value is below this share of the learning rate is not what was meant
SHARE = 10  # a warm-up that does not fit into the run gets one step in ten
SHORTEST = 2  # steps of a warm-up: its start and its end
_PLACES, _LENGTHS = ('begin', 'end'), ('T_max', 'step_size', 'total_steps', 'warmup')


@dataclass(frozen=True)
class Schedules:
    """What :func:`fit_schedules` made of the schedules of a config.

    Attributes:
        configs: of the schedules, with iterations turned into optimizer steps.
        notes: a sentence for each one that was changed.
        peak: the highest learning rate of the run.
        peak_step: the optimizer step, from 1, that has it first.
        total_steps: optimizer steps of the run.
    """

    configs: list[Any]
    notes: list[str]
    peak: float
    peak_step: int
    total_steps: int

    def __str__(self) -> str:
        return f'the lr reaches {self.peak:g}, first at step {self.peak_step} of {self.total_steps}'


def build_schedule(config: Any, optimizer: OptimWrapper | torch.optim.Optimizer, counter: StepCounter) -> Any:
    """Builds one schedule; one that was built already is passed on."""
    if isinstance(config, _ParamScheduler):
        return config
    defaults = dict(optimizer=optimizer, epoch_length=counter.steps_per_epoch)
    return PARAM_SCHEDULERS.build(copy.deepcopy(config), default_args=defaults)


def base_lr(wrapper: OptimWrapper) -> float:
    """The learning rate of an optimizer as it is now, before layer decay and multipliers; 0 without one."""
    rates = wrapper.get_lr()
    return next(iter(rates.get('base_lr') or rates.get('lr') or ()), 0.0)


def config_lr(wrapper: OptimWrapper) -> float:
    """The learning rate that the schedules of an optimizer started from: the config's, scaled where it has been."""
    group = getattr(wrapper, 'base_param_settings', None) or wrapper.param_groups[0]
    return group.get('initial_lr', group.get('lr', 0.0))


def fit_schedules(schedules: Any, counter: StepCounter, lr: float) -> Schedules:
    """Turns the schedules of a config into those of a run, and sees to it that they reach the learning rate.

    What a config counts in iterations (``by_epoch=False``) is turned into optimizer steps. A warm-up that would never
    leave its start is made two steps long, or left out in a run of one; one in iterations that outlasts the run, or
    its first decay, gets a tenth of the run.

    Args:
        schedules: one config or a list of them; schedules that were built already are left alone.
        counter: how the run's steps are counted.
        lr: the learning rate of the optimizer, which they start from.

    Raises:
        UsageError: they stay below :data:`REACHED` of the learning rate all the same.
    """
    listed = list(schedules) if isinstance(schedules, list | tuple) else [schedules] if schedules else []
    if not all(isinstance(config, Mapping) for config in listed):
        return Schedules(listed, [], lr, 1, counter.total_steps)
    configs, notes = [], []
    for config in listed:
        counted = in_steps(config, counter)
        if counted is not None:
            mended, note = _able_to_leave_its_start(counted, counter)
            configs += [] if mended is None else [mended]
            notes += [] if note is None else [note]
    fit = _measured(Schedules(configs, notes, lr, 1, counter.total_steps), counter, lr)
    if fit.peak < REACHED * lr:
        fit = _measured(_cut(fit, counter, lr), counter, lr)
    if fit.peak < REACHED * lr:
        raise UsageError(_never_reaches(fit, counter, lr))
    return fit


def lr_curve(configs: Sequence[Any], counter: StepCounter, lr: float) -> Iterator[float]:
    """The learning rate of every optimizer step of a run, as its schedules will set it.

    Args:
        configs: of the schedules, from :func:`fit_schedules`.
        counter: how the run's steps are counted.
        lr: the learning rate of the optimizer.
    """
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=lr)
    built = [build_schedule(config, optimizer, counter) for config in configs]
    # Those that wait for a validation cannot be foreseen; they only lower it.
    of_lr = [s for s in built if s.param_name == 'lr' and not getattr(s, 'need_val_args', False)]
    optimizer.step()  # without gradients; before the first step of a schedule, as mmengine wants it
    for _ in range(counter.max_epochs):
        for _ in range(counter.steps_per_epoch):
            yield optimizer.param_groups[0]['lr']
            for schedule in of_lr:
                if not schedule.by_epoch:
                    schedule.step()
        for schedule in of_lr:
            if schedule.by_epoch:
                schedule.step()


def in_steps(config: Mapping[str, Any], counter: StepCounter) -> dict[str, Any] | None:
    """A schedule whose iterations have become optimizer steps; None where less than one step is left of it.

    Batches that are accumulated are one step. So a schedule has the same value at the same place of the data, whatever
    ``accumulative_counts`` is.
    """
    counted = copy.deepcopy(dict(config))
    by_epoch = counted.get('by_epoch', True)
    counted.setdefault('end', counter.max_epochs if by_epoch else counter.iters_per_epoch * counter.max_epochs)
    if by_epoch or counter.accumulative_counts == 1:
        return counted
    for key in _PLACES:
        counted[key] = counter.step_of(counted.get(key, 0))
    for key in _LENGTHS:
        if counted.get(key):
            counted[key] = max(1, round(counted[key] / counter.accumulative_counts))
    if 'milestones' in counted:
        counted['milestones'] = [counter.step_of(milestone) for milestone in counted['milestones']]
    if 'periods' in counted:
        counted['periods'] = [max(1, round(period / counter.accumulative_counts)) for period in counted['periods']]
    if counted['end'] <= counted['begin'] and not _is_warmup(counted):
        return None
    return counted


def _measured(fit: Schedules, counter: StepCounter, lr: float) -> Schedules:
    """The same with the highest learning rate; looks no further than where the config's is reached."""
    peak, peak_step = 0.0, 1
    for step, value in enumerate(lr_curve(fit.configs, counter, lr), start=1):
        if value > peak:
            peak, peak_step = value, step
        if peak > 0.9999 * lr:
            break
    return replace(fit, peak=peak, peak_step=peak_step)


def _able_to_leave_its_start(config: dict[str, Any], counter: StepCounter) -> tuple[dict[str, Any] | None, str | None]:
    """A warm-up of at least two steps, or None for none at all, and a sentence where it was changed."""
    if not _is_warmup(config):
        return config, None
    begin, end, total, unit = _span(config, counter)
    if end - begin >= SHORTEST:
        return config, None
    why = f'{config["type"]}: a warm-up of {_count(end - begin, unit)} would never leave its start'
    if begin + SHORTEST > total:
        return None, f'{why}; it is left out, since the run has {_count(total, unit)}.'
    return _moved(config, begin, begin + SHORTEST), f'{why}; it takes {SHORTEST} of the {_count(total, unit)}.'


def _cut(fit: Schedules, counter: StepCounter, lr: float) -> Schedules:
    """Shortens the warm-ups in iterations: a config in epochs cannot know how many there will be."""
    configs, notes = list(fit.configs), list(fit.notes)
    for index, config in enumerate(fit.configs):
        begin, end, total, unit = _span(config, counter)
        room = max(SHORTEST, total // SHARE)
        if config.get('warmup'):  # of WarmupCosineLR, in a run of a few steps
            configs[index] = {**config, 'warmup': 0}
            notes.append(
                f'{config["type"]}: with warmup={config["warmup"]} in a run of {_count(total, unit)} the lr would '
                f'reach {fit.peak:g} of {lr:g}; the warm-up is left out.'
            )
        elif _is_warmup(config) and not config.get('by_epoch', True) and end - begin > room:
            fits = begin + room <= total
            configs[index] = _moved(config, begin, begin + room) if fits else None
            for other, follower in enumerate(configs):
                if follower and not follower.get('by_epoch', True) and follower.get('begin') == end:
                    configs[other] = {**follower, 'begin': begin + room}
            notes.append(
                f'{config["type"]}: with a warm-up of {end - begin} {unit}s in a run of {total} the lr would reach '
                f'{fit.peak:g} of {lr:g}; {f"it takes {room} {unit}s" if fits else "it is left out"}.'
            )
    return replace(fit, configs=[config for config in configs if config is not None], notes=notes)


def _never_reaches(fit: Schedules, counter: StepCounter, lr: float) -> str:
    units = {True: 'epochs', False: 'steps'}
    spans = ', '.join(
        f'{config["type"]} {config.get("begin", 0)}-{config["end"]} {units[config.get("by_epoch", True)]}'
        for config in fit.configs
    )
    return (
        f'the schedules never reach the learning rate of the config: {fit.peak:g} of {lr:g} at most, in a run of '
        f'{_count(counter.max_epochs, "epoch")} and {_count(counter.total_steps, "step")} with {spans}. Change the '
        'length with --epochs or --iterations, which move the schedules along, or set optim_wrapper.optimizer.lr and '
        'param_scheduler to what is meant.'
    )


def _is_warmup(config: Mapping[str, Any]) -> bool:
    """Whether a schedule starts below the learning rate and has to give it back at its end."""
    cls = config.get('type')
    if isinstance(cls, str):
        with PARAM_SCHEDULERS.switch_scope_and_registry(None) as registry:  # where the config's scope has it
            cls = registry.get(cls)
    names = {base.__name__ for base in getattr(cls, '__mro__', ())}
    if 'LinearParamScheduler' in names:
        return config.get('start_factor', 1 / 3) < config.get('end_factor', 1.0)
    if 'ConstantParamScheduler' in names:
        return config.get('factor', 1 / 3) < 1
    return 'QuadraticWarmupParamScheduler' in names  # mmdet's


def _span(config: Mapping[str, Any], counter: StepCounter) -> tuple[int, int, int, str]:
    """Begin, end and the run's end in the unit in which a schedule moves, and the name of that."""
    begin, end = config.get('begin', 0), config['end']
    if not config.get('by_epoch', True):
        return begin, end, counter.total_steps, 'step'
    if not config.get('convert_to_iter_based'):
        return begin, end, counter.max_epochs, 'epoch'
    each = counter.steps_per_epoch
    return int(begin * each), int(end * each), counter.total_steps, 'step'


def _moved(config: Mapping[str, Any], begin: int, end: int) -> dict[str, Any]:
    """A warm-up with other places, in the unit in which it moves."""
    moved = {**config, 'begin': begin, 'end': end}
    if moved.pop('convert_to_iter_based', False):
        moved['by_epoch'] = False
    return moved


def _count(number: int, unit: str) -> str:
    return f'{number} {unit}' if number == 1 else f'{number} {unit}s'
