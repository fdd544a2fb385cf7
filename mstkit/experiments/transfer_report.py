"""Table, curves and drawn predictions of a transfer."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from mstkit.experiments.fine_tuning import PRETRAINED, SCRATCH, Run
from mstkit.experiments.job import FAILED, FINISHED
from mstkit.experiments.seed_statistics import Spread, mean_curve, spread
from mstkit.experiments.tasks import TASKS
from mstkit.experiments.transfer import Plan
from mstkit.experiments.validation_curves import newest
from mstkit.files import write_atomically
from mstkit.visualization import Curve, draw_curves

NAME = 'transfer'
NOTHING = '–'
EXPLANATION = (
    'Percent on the validation set at the end of each run: mean ± sample standard deviation over the finished seeds. '
    'The difference is that of the means. A validation in which nothing was detected counts as AP 0. '
    f'Every validation of every run, and its command, are in {NAME}.csv.'
)


def write_report(plan: Plan, pictures: Sequence[str] = ()) -> str:
    """Writes ``transfer.md``, ``transfer.csv`` and a plot per task into the folder of the plan.

    Args:
        plan: runs of it that are not finished are left out of the table, and named.
        pictures: files of drawn predictions in that folder, such as ``detection_predictions.png``.

    Returns:
        The table, in Markdown.

    Raises:
        UsageError: a record in the folder of a run was damaged.
    """
    table = markdown_table(plan.runs)
    page = ['# Transfer', f'Backbone: the {plan.source}.', _settings(plan), table, EXPLANATION]
    records = [(run, run.record()) for run in plan.runs]
    waiting = [run.name for run, record in records if record.get('status') not in (FINISHED, FAILED)]
    failed = [f'- {run.name}: {record["error"]}' for run, record in records if record.get('status') == FAILED]
    page += [f'Not finished: {"; ".join(waiting)}.'] if waiting else []
    page += ['\n'.join(['Failed:', '', *failed])] if failed else []
    page += [f'![{task} over the run]({file})' for task, file in draw_plots(plan).items()]
    page += [f'![{file.removesuffix(".png").replace("_", ": ")}]({file})' for file in pictures]
    write_atomically(plan.folder / f'{NAME}.md', ('\n\n'.join(page) + '\n').encode())
    write_atomically(plan.folder / f'{NAME}.csv', csv_table(plan.runs).encode())
    return table


def markdown_table(runs: Sequence[Run]) -> str:
    """A row per task and metric."""
    starts = [start for start in (PRETRAINED, SCRATCH) if any(run.start == start for run in runs)]
    both = len(starts) == 2
    headings = ['task', 'metric', *starts, *(['difference'] if both else []), 'seeds finished']
    lines = [f'| {" | ".join(headings)} |', '|' + ' --- |' * len(headings)]
    for task in dict.fromkeys(run.task for run in runs):
        groups = [[run for run in runs if (run.task, run.start) == (task, start)] for start in starts]
        done = [[run.curves() for run in group if run.record().get('status') == FINISHED] for group in groups]
        counts = [f'{len(some)} of {len(group)}' for some, group in zip(done, groups, strict=True)]
        for metric in TASKS[task].metrics:
            reached = [spread(_last(curves[metric.name]) for curves in some) for some in done]
            cells = [task, metric.name, *(NOTHING if one is None else str(one) for one in reached)]
            cells += [_difference(*reached)] if both else []
            lines.append(f'| {" | ".join([*cells, ", ".join(counts)])} |')
    return '\n'.join(lines)


def csv_table(runs: Sequence[Run]) -> str:
    """A row per run, validation and metric, unrounded; one without numbers for a run that was never measured."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator='\n')
    writer.writerow(
        ['task', 'start', 'seed', 'status', 'seconds', 'step', 'unit', 'metric', 'percent', 'error', 'command']
    )
    for run in runs:
        record = run.record()
        head = [run.task, run.start, run.seed, record.get('status', 'waiting'), record.get('seconds')]
        tail = [record.get('error'), record.get('command')]
        curves = run.curves()
        for name, curve in curves.items():
            writer.writerows([*head, step, run.unit, name, value, *tail] for step, value in curve.items())
        if newest(curves) is None:
            writer.writerow([*head, None, run.unit, None, None, *tail])
    return out.getvalue()


def draw_plots(plan: Plan) -> dict[str, str]:
    """The metrics over the runs, mean over the seeds and each of them faintly behind; returns the files by task."""
    files = {}
    for task in dict.fromkeys(run.task for run in plan.runs):
        panels: dict[str, list[Curve]] = {metric.name: [] for metric in TASKS[task].metrics}
        for number, start in enumerate((PRETRAINED, SCRATCH)):
            measured = [run.curves() for run in plan.runs if (run.task, run.start) == (task, start)]
            for metric, drawn in panels.items():
                curves = [curves[metric] for curves in measured if curves[metric]]
                drawn += [Curve(start, list(mean_curve(curves).items()), number)] if curves else []
                drawn += [Curve(None, list(one.items()), number, faint=True) for one in curves if len(curves) > 1]
        if any(panels.values()):
            files[task] = f'{task}.png'
            unit = next(run.unit for run in plan.runs if run.task == task)
            draw_curves(panels, plan.folder / files[task], ylabel='%', xlabel=unit)
    return files


def _settings(plan: Plan) -> str:
    """What was trained, a line per task."""
    lines = []
    for task, options in plan.tasks.items():
        run = next(run for run in plan.runs if run.task == task)
        words = [f'`{options.config}`']
        words += [f'{run.length} {run.unit}{"s" if run.length > 1 else ""}'] if run.length else []
        words += [f'data in `{options.data_root}`'] if options.data_root else []
        words += [f'{options.num_classes} classes'] if options.num_classes else []
        lines.append(f'- {task}: {", ".join(words)}')
    return '\n'.join(lines)


def _last(curve: dict[int, float]) -> float | None:
    return list(curve.values())[-1] if curve else None


def _difference(first: Spread | None, second: Spread | None) -> str:
    return NOTHING if first is None or second is None else f'{first.mean - second.mean:+.1f}'
