"""The charts of one run, and of several runs compared."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mstkit.evaluation.protocols.collapse import DEAD_DEVIATION, DEAD_RANK
from mstkit.experiments.measurements import accuracy, validation_curves
from mstkit.experiments.tasks import TASKS
from mstkit.report.chart_scales import Point
from mstkit.report.charts import STYLES, Chart, Line
from mstkit.report.computed_schedules import momentum_curve, temperature_curve
from mstkit.report.run_facts import RunRecord
from mstkit.report.run_verdict import prototypes

PLANNED = 'Computed from the config with the code of the run; it is not logged.'


class Family(NamedTuple):
    """A kind of quantity: the section of the page that shows it, its title, its unit, and a note."""

    section: str
    title: str
    unit: str = ''
    note: str = ''


class Quantity(NamedTuple):
    """A curve of a run, with its family and its name within the family."""

    family: Family
    name: str
    points: Sequence[Point]


class Group(NamedTuple):
    """Runs that are drawn as one line: a single run, or the seeds of one choice."""

    name: str
    runs: Sequence[RunRecord]


VALIDATION = Family('accuracy', 'Validation', 'percent')
VALIDATION_MORE = Family('accuracy', 'More of the validation', 'as logged')
LOSS = Family('training', 'Loss terms', 'mean over the last iterations before each point')
RATE = Family('training', 'Learning rate')
MOMENTUM = Family('training', 'Teacher’s momentum', '', PLANNED)
TEMPERATURE = Family('training', 'Teacher’s temperature', '', PLANNED)
SECONDS = Family('training', 'Time of an iteration', 'seconds')
MORE = Family('training', 'More of the training', 'as logged')
ENTROPY = Family('collapse', 'Entropy and divergence', 'nats, mean over the epoch')
DEVIATION = Family('collapse', 'Deviation of features', '1: spread over all directions, 0: all alike')
RANK = Family('collapse', 'Effective rank', 'directions that the features use')
WATCHED = Family('collapse', 'More of the monitor', 'mean over the epoch')
HIDDEN = Family('masks', 'Hidden patches', 'percent of the patches of the global views, mean over the epoch')
_MONITOR = {
    'cross_entropy': (ENTROPY, 'cross-entropy'),
    'teacher_entropy': (ENTROPY, 'teacher entropy'),
    'kl': (ENTROPY, 'KL'),
    'feature_deviation': (DEVIATION, 'deviation'),
    'effective_rank': (RANK, 'effective rank'),
    'hidden_fraction': (HIDDEN, 'hidden'),
    'thrown_fraction': (HIDDEN, 'thrown'),
}
_NOT_DRAWN = ('num_images', 'epoch', 'findings')


def quantities(run: RunRecord, k: int | None = None) -> list[Quantity]:
    """All curves of a run with at least one finite value, in the order of the page.

    Args:
        run: from :func:`mstkit.report.run_facts.read_run`.
        k: number of neighbors of k-NN; by default the run's ``headline_k``.
    """
    found = [*accuracy_curves(run, k), *monitored(run), *_training(run)]
    return [one for one in found if any(math.isfinite(y) for _, y in one.points)]


def accuracy_curves(run: RunRecord, k: int | None = None) -> Iterator[Quantity]:
    """k-NN by branch, then the metrics of the validations."""
    yield from _knn(run, k)
    yield from _validations(run)


def _knn(run: RunRecord, k: int | None) -> Iterator[Quantity]:
    curves: dict[str, list[Point]] = {}
    for record in run.knn:
        for branch, values in record['branches'].items():
            if isinstance(values, dict) and any(name.endswith('_top1') for name in values):
                wanted = k or record.get('k') or 20
                curves.setdefault(branch, []).append((float(record['epoch']), accuracy(values, wanted)))
    used = k or (run.knn[-1].get('k') if run.knn else None)
    family = Family('accuracy', 'k-NN accuracy', f'top-1, percent, k = {used}; epoch 0 is before training')
    yield from (Quantity(family, branch, points) for branch, points in curves.items())


def _validations(run: RunRecord) -> Iterator[Quantity]:
    """Metrics of known tasks in percent, as in mstkit.experiments; all other metrics as logged."""
    logged = run.scalars.metrics()
    files = sorted(run.folder.glob('*/vis_data/scalars.json'))
    for task in TASKS.values():
        known = [metric for metric in task.metrics if metric.unit == '%' if logged.pop(metric.key, None)]
        for name, curve in validation_curves(files, known).items() if known else ():
            yield Quantity(VALIDATION, name, [(float(step), value) for step, value in curve.items()])
    for name, points in logged.items():
        measured = [point for point in points if point[1] != -1 or 'mAP' not in name]  # -1: nothing to detect
        yield Quantity(VALIDATION_MORE, name, measured)


def monitored(run: RunRecord) -> Iterator[Quantity]:
    """The curves that CollapseMonitorHook recorded."""
    names = dict.fromkeys([*_MONITOR, *(name for record in run.collapse for name in record)])
    for name in names:
        family, shown = _MONITOR.get(name, (WATCHED, name.replace('_', ' ')))
        factor = 100.0 if family is HIDDEN else 1.0
        values = [(float(record['epoch']), record.get(name)) for record in run.collapse]
        points = [(x, factor * y) for x, y in values if isinstance(y, int | float) and not isinstance(y, bool)]
        if name not in _NOT_DRAWN:
            yield Quantity(family, shown, points)


def _training(run: RunRecord) -> Iterator[Quantity]:
    curves = {name: run.scalars.curve(name, run.epoch_length) for name in run.scalars.names()}
    if curves.get('base_lr') == curves.get('lr'):
        curves.pop('base_lr', None)
    order = {LOSS: 0, RATE: 1, SECONDS: 2, MORE: 3}
    sorted_ = sorted(((_family(name), name) for name in curves), key=lambda pair: order[pair[0]])
    yield from (Quantity(family, name, curves[name]) for family, name in sorted_ if family in (LOSS, RATE))
    yield Quantity(MOMENTUM, 'momentum', momentum_curve(run.config, run.length, run.epoch_length))
    yield Quantity(TEMPERATURE, 'temperature', temperature_curve(run.config, run.length))
    yield from (Quantity(family, name, curves[name]) for family, name in sorted_ if family not in (LOSS, RATE))


def _family(name: str) -> Family:
    last = name.split('.')[-1]
    if last.startswith('loss'):
        return LOSS
    return RATE if last in ('lr', 'base_lr') else SECONDS if last in ('time', 'data_time') else MORE


def charts_of(run: RunRecord) -> dict[str, list[Chart]]:
    """The charts of one run by the section that they belong to: a chart per family, a line per quantity."""
    families: dict[Family, list[Quantity]] = {}
    for one in quantities(run):
        families.setdefault(one.family, []).append(one)
    found: dict[str, list[Chart]] = {}
    for family, members in families.items():
        # Unrelated quantities get a chart each.
        size = 1 if family in (MORE, WATCHED) else STYLES
        for start in range(0, len(members), size):
            some = members[start : start + size]
            lines = [Line(one.name, one.points, style) for style, one in enumerate(some)]
            title = some[0].name if size == 1 else f'{family.title}{f" ({start // size + 1})" if start else ""}'
            levels = _levels(family, [run])
            found.setdefault(family.section, []).append(
                Chart(title, lines, _x(family, run), family.unit, levels, family.note, family is not RATE)
            )
    return found


def charts_comparing(groups: Sequence[Group], k: int | None = None) -> dict[str, list[Chart]]:
    """The charts of several groups of runs by section: a chart per quantity, a line per group."""
    shared: dict[tuple[Family, str, str], dict[int, list[Sequence[Point]]]] = {}
    for style, group in enumerate(groups):
        for run in group.runs:
            for one in quantities(run, k):
                key = (one.family, one.name, _x(one.family, run))
                shared.setdefault(key, {}).setdefault(style, []).append(one.points)
    found: dict[str, list[Chart]] = {}
    for (family, name, x), curves in shared.items():
        planned = family.note == PLANNED
        if planned and len({tuple(points) for some in curves.values() for points in some}) == 1:
            continue  # the same schedule in all runs
        lines = [
            Line(groups[style].name, mean_points(some), style, some if len(some) > 1 else ())
            for style, some in curves.items()
        ]
        levels = None if name == 'KL' else _levels(family, [run for group in groups for run in group.runs])
        chart = Chart(_title(family, name), lines, x, family.unit, levels, family.note, family is not RATE)
        found.setdefault(family.section, []).append(chart)
    return found


def _title(family: Family, name: str) -> str:
    """The title of a chart of one quantity."""
    if family in (RANK, DEVIATION, HIDDEN, MOMENTUM, TEMPERATURE) or name == 'lr':
        return family.title
    if family in (MORE, WATCHED, LOSS, ENTROPY):
        return name[:1].upper() + name[1:] if family is ENTROPY else name
    return f'{family.title}: {name}'


def mean_points(curves: Sequence[Sequence[Point]]) -> list[Point]:
    """The mean of several curves, at those x at which all of them have a value."""
    if len(curves) == 1:
        return list(curves[0])
    values = [dict(curve) for curve in curves]
    common = sorted(set.intersection(*(set(one) for one in values)))
    return [(x, statistics.fmean(one[x] for one in values)) for x in common]


def _x(family: Family, run: RunRecord) -> str:
    if family.section == 'training' and run.unit == 'epoch' and not run.epoch_length and family.note != PLANNED:
        return 'iteration'
    return run.unit


def _levels(family: Family, runs: Sequence[RunRecord]) -> dict[str, float] | None:
    """Reference values of a family, drawn as horizontal lines, by their labels."""
    if family is ENTROPY:
        highest = {prototypes(run) for run in runs}
        count = highest.pop() if len(highest) == 1 else None
        return {f'ln K, K = {count}': math.log(count)} if count and count > 1 else None
    if family is DEVIATION:
        return {f'dead below {DEAD_DEVIATION:g}': DEAD_DEVIATION}
    return {f'along one line below {DEAD_RANK:g}': DEAD_RANK} if family is RANK else None
