"""Parameter schedules of a run: counted in optimizer steps, and made to reach the learning rate of the config.

mmengine's schedules multiply the current value. A warm-up of a single step multiplies it by the start factor and never
undoes that, so that the whole run trains at, say, 1e-9 of its learning rate; a warm-up that is longer than the run, or
that the first decay interrupts, stops too low. Both happen with small data sets, where an epoch has one or two steps.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from mmengine.optim import OptimWrapper, ReduceOnPlateauParamScheduler, _ParamScheduler
from mmengine.registry import PARAM_SCHEDULERS
from torch import nn

from mstkit.engine.optim.step_counts import StepCounter
from mstkit.errors import UsageError
from mstkit.utils.build_errors import component_called

REACHED = 0.9  # the schedules have to reach this share of the config's learning rate
SHARE = 10  # a warm-up that does not fit into the run is shortened to a tenth of the run
SHORTEST = 2  # steps of a warm-up: its start and its end
_POSITION_KEYS, _LENGTH_KEYS = ('begin', 'end'), ('T_max', 'step_size', 'total_steps', 'warmup')


@dataclass(frozen=True)
class Schedules:
    """The schedules of a run, from :func:`fit_schedules`.

    Attributes:
        configs: their configs, with iterations converted to optimizer steps.
        notes: a sentence for each schedule that was changed.
        peak: the highest learning rate of the run.
        peak_step: the first optimizer step, from 1, with that learning rate.
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
    """Builds one schedule from its config; a schedule that is already built is returned as it is."""
    if isinstance(config, _ParamScheduler):
        return config
    defaults = dict(optimizer=optimizer, epoch_length=counter.steps_per_epoch)
    return PARAM_SCHEDULERS.build(copy.deepcopy(config), default_args=defaults)


def base_lr(wrapper: OptimWrapper) -> float:
    """The current learning rate of an optimizer, before layer decay and multipliers; 0 if it has none."""
    rates = wrapper.get_lr()
    return next(iter(rates.get('base_lr') or rates.get('lr') or ()), 0.0)


def config_lr(wrapper: OptimWrapper) -> float:
    """The learning rate from which the schedules start: the config's, after ``auto_scale_lr``."""
    group = wrapper.base_param_settings or wrapper.param_groups[0]
    return group.get('initial_lr', group.get('lr', 0.0))


def fit_schedules(schedules: Any, counter: StepCounter, lr: float) -> Schedules:
    """Converts a config's schedules to optimizer steps, and shortens warm-ups so that they reach the learning rate.

    Schedules in iterations (``by_epoch=False``) are converted to optimizer steps. A warm-up of a single step would
    stay at its start factor: it becomes two steps long, and what followed it begins after it, or it is left out in a
    run of one step. A warm-up in iterations that does not end before the run or the first decay is shortened to a tenth
    of the run.

    Args:
        schedules: one config or a list of them; schedules that are already built stay as they are.
        counter: converts iterations to optimizer steps.
        lr: the optimizer's learning rate before any schedule.

    Raises:
        UsageError: even so they do not reach :data:`REACHED` times the learning rate.
    """
    listed = list(schedules) if isinstance(schedules, list | tuple) else [schedules] if schedules else []
    if not all(isinstance(config, Mapping) for config in listed):
        return Schedules(listed, [], lr, 1, counter.total_steps)
    configs, notes, longer = [], [], []
    for config in listed:
        counted = in_steps(config, counter)
        if counted is not None:
            mended, note = _with_two_warmup_steps(counted, counter)
            configs += [] if mended is None else [mended]
            notes += [] if note is None else [note]
            _, end, _, unit = _span(counted, counter)
            if mended is not None and mended is not counted and unit == 'step':
                longer.append((end, mended['end']))
    for old, new in longer:
        configs = [moved for config in configs if (moved := _behind(config, old, new, counter)) is not None]
    fit = _with_peak(Schedules(configs, notes, lr, 1, counter.total_steps), counter, lr)
    if fit.peak < REACHED * lr:
        fit = _with_peak(_with_shorter_warmups(fit, counter, lr), counter, lr)
    if fit.peak < REACHED * lr:
        raise UsageError(_never_reaches(fit, counter, lr))
    return fit


def lr_curve(configs: Sequence[Any], counter: StepCounter, lr: float) -> Iterator[float]:
    """Yields the learning rate of every optimizer step of a run.

    Args:
        configs: of the schedules, from :func:`fit_schedules`.
        counter: the number of epochs and of steps per epoch.
        lr: the optimizer's learning rate before any schedule.
    """
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=lr)
    built = [build_schedule(config, optimizer, counter) for config in configs]
    # Schedules that depend on validation results cannot be simulated; they only lower the learning rate.
    of_lr = [s for s in built if s.param_name == 'lr' and not isinstance(s, ReduceOnPlateauParamScheduler)]
    optimizer.step()  # without gradients; mmengine warns if a schedule steps before the optimizer did
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
    """Converts a schedule from iterations to optimizer steps; None if it is shorter than one step.

    ``accumulative_counts`` iterations are one step, so that a schedule has the same value after the same number of
    images, whatever ``accumulative_counts`` is.
    """
    counted = copy.deepcopy(dict(config))
    by_epoch = counted.get('by_epoch', True)
    counted.setdefault('end', counter.max_epochs if by_epoch else counter.iters_per_epoch * counter.max_epochs)
    if by_epoch or counter.accumulative_counts == 1:
        return counted
    for key in _POSITION_KEYS:
        counted[key] = counter.step_of(counted.get(key, 0))
    for key in _LENGTH_KEYS:
        if counted.get(key):
            counted[key] = max(1, round(counted[key] / counter.accumulative_counts))
    if 'milestones' in counted:
        counted['milestones'] = [counter.step_of(milestone) for milestone in counted['milestones']]
    if 'periods' in counted:
        counted['periods'] = [max(1, round(period / counter.accumulative_counts)) for period in counted['periods']]
    if counted['end'] <= counted['begin'] and not _is_warmup(counted):
        return None
    return counted


def _with_peak(fit: Schedules, counter: StepCounter, lr: float) -> Schedules:
    """Fills in the highest learning rate and its step; stops at the first step that reaches the config's."""
    peak, peak_step = 0.0, 1
    for step, value in enumerate(lr_curve(fit.configs, counter, lr), start=1):
        if value > peak:
            peak, peak_step = value, step
        if peak > 0.9999 * lr:
            break
    return replace(fit, peak=peak, peak_step=peak_step)


def _with_two_warmup_steps(config: dict[str, Any], counter: StepCounter) -> tuple[dict[str, Any] | None, str | None]:
    """Makes a warm-up at least two steps long, or leaves it out (None); and a sentence if that changed it."""
    if not _is_warmup(config):
        return config, None
    begin, end, total, unit = _span(config, counter)
    if end - begin >= SHORTEST:
        return config, None
    why = f'{config["type"]}: a warm-up of {_count(end - begin, unit)} would stay at its start factor'
    if begin + SHORTEST > total:
        return None, f'{why}; it is left out, since the run has {_count(total, unit)}.'
    return _moved(config, begin, begin + SHORTEST), f'{why}; it takes {SHORTEST} of the {_count(total, unit)}.'


def _behind(config: dict[str, Any], old: int, new: int, counter: StepCounter) -> dict[str, Any] | None:
    """Moves what followed a warm-up whose end went from step ``old`` to ``new``; None if nothing is left of it.

    It begins at the last step of the warm-up, which is the first at full rate.
    """
    begin, end, _, unit = _span(config, counter)
    if unit != 'step' or _is_warmup(config) or not old <= begin < new - 1:
        return config
    if config.get('convert_to_iter_based'):
        config = {**config, **{key: config[key] * counter.steps_per_epoch for key in _LENGTH_KEYS if config.get(key)}}
    return _moved(config, new - 1, end) if new - 1 < end else None


def _with_shorter_warmups(fit: Schedules, counter: StepCounter, lr: float) -> Schedules:
    """Shortens warm-ups in iterations to a tenth of the run, and drops those of ``WarmupCosineLR``."""
    configs, notes = list(fit.configs), list(fit.notes)
    for index, config in enumerate(fit.configs):
        begin, end, total, unit = _span(config, counter)
        room = max(SHORTEST, total // SHARE)
        if config.get('warmup'):  # WarmupCosineLR in a run of a few steps
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
        'length with --epochs or --iterations, which change the schedules too, or change optim_wrapper.optimizer.lr '
        'or param_scheduler.'
    )


def _is_warmup(config: Mapping[str, Any]) -> bool:
    """Whether a schedule starts below the optimizer's learning rate and ends at it."""
    cls = config.get('type')
    if isinstance(cls, str):
        with PARAM_SCHEDULERS.switch_scope_and_registry(None) as registry:  # the registry of the config's scope
            cls = component_called(cls, registry)
    names = {base.__name__ for base in cls.__mro__} if isinstance(cls, type) else set()
    if 'LinearParamScheduler' in names:
        return config.get('start_factor', 1 / 3) < config.get('end_factor', 1.0)
    if 'ConstantParamScheduler' in names:
        return config.get('factor', 1 / 3) < 1
    return 'QuadraticWarmupParamScheduler' in names  # mmdet's


def _span(config: Mapping[str, Any], counter: StepCounter) -> tuple[int, int, int, str]:
    """Begin, end and the run's end in the unit that a schedule counts, and that unit: ``step`` or ``epoch``."""
    begin, end = config.get('begin', 0), config['end']
    if not config.get('by_epoch', True):
        return begin, end, counter.total_steps, 'step'
    if not config.get('convert_to_iter_based'):
        return begin, end, counter.max_epochs, 'epoch'
    each = counter.steps_per_epoch
    return int(begin * each), int(end * each), counter.total_steps, 'step'


def _moved(config: Mapping[str, Any], begin: int, end: int) -> dict[str, Any]:
    """A warm-up with another begin and end, in the unit of :func:`_span`."""
    moved = {**config, 'begin': begin, 'end': end}
    if moved.pop('convert_to_iter_based', False):
        moved['by_epoch'] = False
    return moved


def _count(number: int, unit: str) -> str:
    return f'{number} {unit}' if number == 1 else f'{number} {unit}s'
