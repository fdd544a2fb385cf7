"""Table, curves and drawn predictions of a transfer."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Sequence

from mstkit.files import write_atomically
from mstkit.transfer.plan import FAILED, PRETRAINED, SCRATCH, TASKS, Plan, Run
from mstkit.transfer.results import last, read_curves, spread
from mstkit.visualization import Curve, draw_curves

NAME = 'transfer'


def write_report(plan: Plan, pictures: Sequence[str] = ()) -> str:
    """Writes ``transfer.md``, ``transfer.csv`` and a plot per task into the folder of the plan.

    Args:
        plan: from :func:`mstkit.transfer.make_plan`; runs that are not finished are left out, and counted.
        pictures: files of drawn predictions in that folder.

    Returns:
        The table, in Markdown.
    """
    table = markdown_table(plan.runs)
    page = ['# Transfer', f'Backbone: the {plan.source}.', table]
    missing = [run.name for run in plan.runs if run.record().get('status') != 'finished']
    if missing:
        page.append(f'Not finished: {"; ".join(missing)}.')
    failures = [f'{run.name}: {run.record().get("error")}' for run in plan.runs if run.record().get('status') == FAILED]
    if failures:
        page.append('\n'.join(['Failed:', *(f'- {failure}' for failure in failures)]))
    page += [f'![{task} over the run]({file})' for task, file in draw_plots(plan).items()]
    page += [f'![predictions]({file})' for file in pictures]
    write_atomically(plan.folder / f'{NAME}.md', ('\n\n'.join(page) + '\n').encode())
    write_atomically(plan.folder / f'{NAME}.csv', csv_table(plan.runs).encode())
    return table


def markdown_table(runs: Sequence[Run]) -> str:
    """A row per task and metric, percent at the end of the runs: mean ± sample deviation over the seeds."""
    starts = [start for start in (PRETRAINED, SCRATCH) if any(run.start == start for run in runs)]
    headings = ['task', 'metric', *starts, *(['difference'] if len(starts) == 2 else []), 'seeds']
    lines = [f'| {" | ".join(headings)} |', '|' + ' --- |' * len(headings)]
    for task in dict.fromkeys(run.task for run in runs):
        for metric in TASKS[task].metrics:
            values = {start: _values(runs, task, start, metric.name) for start in starts}
            cells = [task, metric.name, *(spread(values[start]) for start in starts)]
            if len(starts) == 2:
                both = values[PRETRAINED] and values[SCRATCH]
                means = [statistics.fmean(values[start]) for start in starts] if both else []
                cells.append(f'{means[0] - means[1]:+.1f}' if means else '–')
            lines.append(f'| {" | ".join([*cells, "/".join(str(len(values[start])) for start in starts)])} |')
    return '\n'.join(lines)


def csv_table(runs: Sequence[Run]) -> str:
    """A row per run and validation, with its command."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator='\n')
    writer.writerow(['task', 'start', 'seed', 'status', 'seconds', 'step', 'metric', 'percent', 'arguments'])
    for run in runs:
        record = run.record()
        head = [run.task, run.start, run.seed, record.get('status', 'waiting'), record.get('seconds')]
        for metric, curve in read_curves(run).items():
            for step, value in curve:
                writer.writerow([*head, step, metric, round(value, 4), ' '.join(run.arguments())])
    return out.getvalue()


def draw_plots(plan: Plan) -> dict[str, str]:
    """The metrics over the run, pre-trained and random init; returns the files by task."""
    files = {}
    for task in dict.fromkeys(run.task for run in plan.runs):
        panels: dict[str, list[Curve]] = {}
        for metric in TASKS[task].metrics:
            curves = []
            for number, start in enumerate((PRETRAINED, SCRATCH)):
                found = [read_curves(run)[metric.name] for run in plan.runs if (run.task, run.start) == (task, start)]
                found = [curve for curve in found if curve]
                if len(found) > 1:
                    steps = sorted(set.intersection(*(set(dict(curve)) for curve in found)))
                    mean = [(step, statistics.fmean(dict(curve)[step] for curve in found)) for step in steps]
                    curves.append(Curve(start, mean, number))
                    curves += [Curve(None, curve, number, faint=True) for curve in found]
                else:
                    curves += [Curve(start, curve, number) for curve in found]
            panels[metric.name] = curves
        if any(panels.values()):
            files[task] = f'{task}.png'
            draw_curves(panels, plan.folder / files[task], ylabel='%', xlabel='epoch or iteration')
    return files


def _values(runs: Sequence[Run], task: str, start: str, metric: str) -> list[float]:
    found = (last(run, metric) for run in runs if (run.task, run.start) == (task, start))
    return [value for value in found if value is not None]
