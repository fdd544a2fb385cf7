"""The report of a transfer: table, curves and drawn predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mstkit.experiments.job_results import NOTHING, Result, csv_rows, markdown_rows, mean_curves, write_page
from mstkit.experiments.seed_statistics import spread
from mstkit.experiments.tasks import TASKS
from mstkit.experiments.transfer import Plan
from mstkit.experiments.transfer_run import PRETRAINED, SCRATCH, TransferRun
from mstkit.visualization import draw_curves

NAME = 'transfer'
EXPLANATION = (
    'Percent, or the unit that is named, on the validation set at the end of each run: mean ± sample standard '
    'deviation over the finished seeds. The difference is that of the means. A validation in which nothing was '
    'detected counts as AP 0. '
    f'Every validation of every run, and its command, are in {NAME}.csv.'
)


@dataclass(frozen=True)
class RunResult(Result):
    """The result of one run, with the curves of its metrics."""

    job: TransferRun


def read_results(runs: Sequence[TransferRun]) -> list[RunResult]:
    """Reads the records of runs, finished or not.

    Raises:
        UsageError: a record in the folder of a run was damaged.
    """
    return [RunResult(run, run.record(), run.curves()) for run in runs]


def write_report(plan: Plan, images: Sequence[str] = ()) -> str:
    """Writes ``transfer.md``, ``transfer.csv`` and a plot per task into the folder of the plan.

    Args:
        plan: the transfer; its unfinished runs are listed instead of being in the table.
        images: files of drawn predictions in that folder, such as ``detection_predictions.png``.

    Returns:
        The table, in Markdown.

    Raises:
        UsageError: a record in the folder of a run was damaged.
    """
    results = read_results(plan.runs)
    table = markdown_table(results)
    page = ['# Transfer', f'Backbone: the {plan.source}.', _settings(plan), table, EXPLANATION]
    waiting = [result.job.name for result in results if not (result.finished or result.failed)]
    failed = [f'- {result.job.name}: {result.record["error"]}' for result in results if result.failed]
    page += [f'Not finished: {"; ".join(waiting)}.'] if waiting else []
    page += ['\n'.join(['Failed:', '', *failed])] if failed else []
    page += [f'![{task} over the run]({file})' for task, file in draw_plots(plan, results).items()]
    page += [f'![{file.removesuffix(".png").replace("_", ": ")}]({file})' for file in images]
    write_page(plan.folder, NAME, page, csv_table(results))
    return table


def by_start(results: Sequence[RunResult], task: str) -> dict[str, list[RunResult]]:
    """The runs of a task by their start (pre-trained or random), one per seed."""
    of_task = [result for result in results if result.job.task == task]
    return {start: [one for one in of_task if one.job.start == start] for start in (PRETRAINED, SCRATCH)}


def markdown_table(results: Sequence[RunResult]) -> str:
    """A row per task and metric."""
    starts = [start for start in (PRETRAINED, SCRATCH) if any(result.job.start == start for result in results)]
    rows = []
    for task in dict.fromkeys(result.job.task for result in results):
        groups = [by_start(results, task)[start] for start in starts]
        done = [[result for result in group if result.finished] for group in groups]
        counts = ', '.join(f'{len(some)} of {len(group)}' for some, group in zip(done, groups, strict=True))
        for metric in TASKS[task].metrics:
            reached = [spread(point and point[1] for point in (one.last(metric.name) for one in some)) for some in done]
            cells = [task, metric.title, *(str(one or NOTHING) for one in reached)]
            if len(starts) == 2:
                first, second = reached
                cells.append(_difference(first.mean - second.mean) if first and second else NOTHING)
            rows.append([*cells, counts])
    difference = ['difference'] if len(starts) == 2 else []
    return markdown_rows(['task', 'metric', *starts, *difference, 'seeds finished'], rows)


def _difference(value: float) -> str:
    """With its sign; what rounds to 0 has that of 0, as -0.0 would say something."""
    return f'{round(value, 1) + 0.0:+.1f}'


def csv_table(results: Sequence[RunResult]) -> str:
    """A CSV table with a row per run, validation and metric, unrounded; one empty row for a run never measured."""
    rows: list[dict[str, object]] = []
    for result in results:
        run, record = result.job, result.record
        head = dict(task=run.task, start=run.start, seed=run.seed, status=record.get('status', 'waiting'))
        points: list[tuple[object, ...]] = [
            (name, *point) for name, curve in result.curves.items() for point in curve.items()
        ]
        units = {metric.name: metric.unit for metric in TASKS[run.task].metrics}
        for name, step, value in points or [(None, None, None)]:
            measured = dict(seconds=record.get('seconds'), step=step, unit=run.unit, metric=name, value=value)
            measured['measured_in'] = units.get(str(name))
            rows.append({**head, **measured, 'error': record.get('error'), 'command': record.get('command')})
    return csv_rows(rows)


def draw_plots(plan: Plan, results: Sequence[RunResult]) -> dict[str, str]:
    """Draws metrics over training, mean over seeds and each seed faintly; returns the files by task."""
    files = {}
    for task in dict.fromkeys(result.job.task for result in results if TASKS[result.job.task].program is None):
        metrics = [metric for metric in TASKS[task].metrics if metric.unit == '%']  # they share an axis
        panels = mean_curves(by_start(results, task), [metric.name for metric in metrics])
        if any(panels.values()):
            files[task] = f'{task}.png'
            unit = next(result.job.unit for result in results if result.job.task == task)
            draw_curves(panels, plan.folder / files[task], ylabel='%', xlabel=unit)
    return files


def _settings(plan: Plan) -> str:
    """A list with config, length and data of each task."""
    lines = []
    for task, options in plan.tasks.items():
        run = next(run for run in plan.runs if run.task == task)
        words = [f'`{options.config}`' if options.config else f'without training, by `{TASKS[task].program}`']
        words += [f'{run.length} {run.unit}{"s" if run.length > 1 else ""}'] if run.length else []
        words += [f'data in `{options.data_root}`'] if options.data_root else []
        words += [f'{options.num_classes} classes'] if options.num_classes else []
        lines.append(f'- {task}: {", ".join(words)}')
    return '\n'.join(lines)
