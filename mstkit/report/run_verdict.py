"""Verdicts on a run, in words: collapse, progress, divergence."""

from __future__ import annotations

import math
import time
from typing import Any

from mstkit.evaluation.protocols.collapse import CollapseStatistics, diagnose
from mstkit.experiments import FAILED, FINISHED
from mstkit.report.number_words import number, several
from mstkit.report.run_configs import argument, part
from mstkit.report.run_facts import DIVERGED, GOING, RunRecord
from mstkit.utils.finite_numbers import terms_of

FINE, EARLY, COLLAPSED, UNKNOWN = 'no sign of collapse', 'too early to say', 'signs of collapse', 'not watched'


def prototypes(run: RunRecord) -> int | None:
    """K, the number of prototypes of the distillation."""
    for name in ('head', 'neck'):
        component = part(run.config, f'model.{name}')
        if name == 'neck' or (isinstance(component, dict) and 'out_dim' in component):
            found = argument(component, 'out_dim')
            if isinstance(found, int):
                return found
    return None


def verdict(run: RunRecord) -> tuple[str, list[str]]:
    """Whether a run has collapsed.

    Returns:
        ``FINE``, ``EARLY``, ``COLLAPSED`` or ``UNKNOWN``, and sentences that explain it.
    """
    if not run.collapse:
        return UNKNOWN, ['CollapseMonitorHook recorded nothing.']
    last = run.collapse[-1]
    statistics = _statistics(last, prototypes(run))
    findings = diagnose(statistics)
    grace = _grace(run)
    warned = [record['epoch'] for record in run.collapse if record.get('findings')]
    sentences = [_numbers(last, statistics)]
    if last['epoch'] <= grace:
        early = f'In the first {grace} epochs' if grace > 1 else 'In the first epoch'
        return EARLY, [*sentences, f'{early} a loss near ln K is normal, so nothing is concluded yet.']
    if findings:
        return COLLAPSED, [*findings, *sentences]
    if warned:
        sentences.append(f'There were warnings in {_epochs(warned)}, but not since.')
    if run.state == DIVERGED:
        sentences.append('That says nothing about the end of the run: it diverged.')
    return FINE, sentences


def _statistics(record: dict[str, Any], out_dim: int | None) -> CollapseStatistics:
    names = [name for name in CollapseStatistics._fields if name != 'out_dim']
    return CollapseStatistics(out_dim=out_dim, **{name: record.get(name) for name in names})


def _grace(run: RunRecord) -> int:
    """The number of first epochs without warnings, as in CollapseMonitorHook."""
    for hook in part(run.config, 'custom_hooks') or []:
        if isinstance(hook, dict) and str(hook.get('type')).endswith('CollapseMonitorHook'):
            given = hook.get('grace_epochs')
            if given is not None:
                return int(given)
    return min(10, max(1, (run.length or 0) // 10))


def _numbers(record: dict[str, Any], statistics: CollapseStatistics) -> str:
    said = []
    highest = math.log(statistics.out_dim) if statistics.out_dim and statistics.out_dim > 1 else None
    if statistics.teacher_entropy is not None:
        most = f' of at most ln K = {highest:.2f}' if highest else ''
        said.append(f'the teacher’s entropy is {number(statistics.teacher_entropy, 3)}{most} nats')
    if statistics.kl is not None:
        said.append(f'the student is {number(statistics.kl, 3)} nats away from the teacher (KL)')
    if statistics.feature_deviation is not None:
        said.append(
            f'features of different images deviate by {number(statistics.feature_deviation, 3)} '
            '(1 is spread over all directions, 0 is dead)'
        )
    if statistics.effective_rank is not None:
        said.append(f'they use {number(statistics.effective_rank, 3)} directions (effective rank)')
    return f'After epoch {record["epoch"]} {several(said)}.' if said else f'Epoch {record["epoch"]} has no numbers.'


def _epochs(epochs: list[int]) -> str:
    if len(epochs) == 1:
        return f'epoch {epochs[0]}'
    if epochs == list(range(epochs[0], epochs[-1] + 1)):
        return f'epochs {epochs[0]} to {epochs[-1]}'
    return f'epochs {several([str(epoch) for epoch in epochs])}'


def progress(run: RunRecord) -> str:
    """A sentence about the length that a run reached, and how it ended."""
    reached = number(math.floor(run.reached * 10) / 10, 7)
    where = f'{reached} of {run.length} {run.unit}s' if run.length else f'{reached} {run.unit}s'
    sign = time.strftime('%Y-%m-%d %H:%M', time.localtime(run.last_sign))
    if run.state == FINISHED:
        return f'{where}.'
    if run.state == GOING:
        return f'{where} so far, last sign of life {sign}.'
    stop = run.events.stop
    if stop is not None:
        where = f'{where}, at iteration {stop.iteration} (epoch {stop.epoch})'
    if run.state == DIVERGED:
        if stop is not None and stop.diverged:
            return f'Stopped after {where}, because its loss or its weights were no longer finite.'
        return f'{where}. Its loss was not finite at the end.'
    if run.state == FAILED:
        return f'Failed after {where}, last sign of life {sign}.'
    if stop is not None and stop.interrupted:
        return f'{stop.reason[:1].upper()}{stop.reason[1:]} after {where}, {sign}.'
    if run.length and not run.events.recorded:
        return f'Broken off after {where}; why is not recorded. Last sign of life {sign}.'
    if run.length:
        return f'Broken off after {where}; no reason was logged, so it was probably killed. Last sign of life {sign}.'
    return f'{where}, last sign of life {sign}.'


def divergence(run: RunRecord) -> str | None:
    """Since when the losses are not finite, and the last checkpoint from before; None if they are finite at the end."""
    found = run.scalars.divergence()
    if found is None:
        return None
    length = run.epoch_length
    epoch = f' (epoch {(found.iteration - 1) // length + 1})' if length else ''
    terms = terms_of(found.losses)
    said = (
        f'{several([f"{name} = {value}" for name, value in terms.items()])} from iteration {found.iteration}{epoch} on'
    )
    per = length if run.unit == 'epoch' else 1
    before = [path for at, path in run.saved.items() if per and at * per <= found.before]
    left = (
        f'the last checkpoint from before is {before[-1].name}'
        if before
        else 'no checkpoint is known to be from before'
    )
    return f'The log has {said}: weights that were saved after that are of no use; {left}.'
