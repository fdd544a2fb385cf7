"""The report of an ablation: a table as Markdown and CSV, and a plot."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mstkit.experiments.ablation import Cell, Plan
from mstkit.experiments.job_results import NOTHING, Result, csv_rows, markdown_rows, mean_curves, write_page
from mstkit.experiments.measurements import epoch_lines
from mstkit.experiments.seed_statistics import spread
from mstkit.visualization import draw_curves

NAME = 'ablation'
USUAL_BRANCHES = ('student', 'teacher')


@dataclass(frozen=True)
class CellResult(Result):
    """The result of one cell; it has curves only if it is finished.

    Attributes:
        hidden: the share of hidden patches, mean over the epochs; None if unknown.
    """

    job: Cell
    hidden: float | None = None

    def untrained(self) -> float | None:
        """Accuracy of the untrained network, whose branches are all equal; None if not measured."""
        return next(iter(self.curves.values()), {}).get(0)


def read_result(cell: Cell, k: int) -> CellResult:
    """Reads the records of a cell.

    Args:
        cell: finished or not.
        k: number of neighbors, limited to the size of the bank.

    Raises:
        UsageError: a file in its folder was damaged.
    """
    result = CellResult(cell, cell.record(), {})
    if not result.finished:
        return result
    lines = epoch_lines(cell.folder / 'collapse.jsonl')
    shares = [line['hidden_fraction'] for line in lines if 'hidden_fraction' in line]
    hidden = statistics.fmean(shares) if shares else 0.0 if cell.hides_nothing else None
    return CellResult(cell, result.record, cell.curves(k), hidden)


def write_report(plan: Plan, k: int, first: Sequence[str] = ()) -> str:
    """Writes ``ablation.md``, ``ablation.csv`` and ``ablation.png`` from the records in the folders of cells.

    Args:
        plan: the ablation.
        k: number of neighbors of the accuracies.
        first: paragraphs of the page before the table.

    Returns:
        The table, in Markdown.

    Raises:
        UsageError: a file in the folder of a cell was damaged.
    """
    results = [read_result(cell, k) for cell in plan.cells]
    table = markdown_table(results)
    page = [f'# Ablation of {plan.base}', *first, table, _explanation(k)]
    failed = [
        [result.job.name, str(result.record.get('exit_code')), str(result.record.get('error'))]
        for result in results
        if result.failed
    ]
    page += [markdown_rows(['failed cell', 'exit code', 'error'], failed)] if failed else []
    drawn = any(result.curves for result in results)
    page += [f'![k-NN over epochs]({NAME}.png)'] if drawn else []
    write_page(plan.folder, NAME, page, csv_table(results, k))
    if drawn:
        draw_report(results, plan.folder / f'{NAME}.png', k)
    return table


def by_choice(results: Sequence[CellResult]) -> dict[str, list[CellResult]]:
    """The cells by choice, one per seed."""
    groups: dict[str, list[CellResult]] = {}
    for result in results:
        groups.setdefault(result.job.group, []).append(result)
    return groups


def branches(results: Sequence[CellResult]) -> list[str]:
    """The names of all measured branches; student and teacher if there are no measurements yet."""
    return list(dict.fromkeys(branch for result in results for branch in result.curves) or USUAL_BRANCHES)


def markdown_table(results: Sequence[CellResult]) -> str:
    """A Markdown table with a row per choice: accuracies in percent, mean ± deviation over the finished seeds."""
    measured = [f'{branch}, {which}' for branch in branches(results) for which in ('last', 'best')]
    rows = []
    for choice, group in by_choice(results).items():
        done = [result for result in group if result.finished]
        row = [choice]
        for branch in branches(results):
            best = [point for result in done if (point := result.best(branch))]
            epochs = f' ({"/".join(str(epoch) for epoch, _ in best)})' if best else ''
            row.append(_mean(point[1] for result in done if (point := result.last(branch))))
            row.append(_mean(value for _, value in best) + epochs)
        row.append(_mean(result.untrained() for result in done))
        hidden, seconds = spread(r.hidden for r in done), spread(r.record.get('seconds') for r in done)
        row.append(f'{100 * hidden.mean:.1f}' if hidden else NOTHING)
        row.append(f'{seconds.mean:.0f}' if seconds else NOTHING)
        rows.append([*row, f'{len(done)} of {len(group)}', str(sum(result.failed for result in group))])
    headings = ['choice', *measured, 'random init', 'hidden, %', 's per cell', 'seeds finished', 'failed']
    return markdown_rows(headings, rows)


def csv_table(results: Sequence[CellResult], k: int) -> str:
    """A CSV table with a row per cell, with unrounded numbers."""
    rows = []
    for result in results:
        cell, record = result.job, result.record
        row: dict[str, object] = {'choice': cell.group, **cell.about['choice'], 'seed': cell.seed}
        row.update(status=record.get('status', 'waiting'), k=k, random_init=result.untrained())
        for branch in branches(results):
            for which, point in (('last', result.last(branch)), ('best', result.best(branch))):
                epoch, accuracy = point or (None, None)
                row.update({f'{branch}_{which}': accuracy, f'{branch}_{which}_epoch': epoch})
        row['hidden_fraction'] = result.hidden
        row.update({name: record.get(name) for name in ('seconds', 'jobs', 'exit_code', 'error')})
        rows.append({**row, 'work_dir': cell.folder, 'command': record.get('command')})
    return csv_rows(rows)


def draw_report(results: Sequence[CellResult], path: Path, k: int) -> None:
    """Draws accuracy over epochs: a panel per branch, a line per choice (mean of its seeds; each seed faintly)."""
    untrained = spread(result.untrained() for result in results)
    panels = mean_curves(by_choice(results), branches(results))
    draw_curves(panels, path, f'k-NN top-1 (k = {k}), %', untrained=untrained.mean if untrained else None)


def _explanation(k: int) -> str:
    return (
        f'Weighted k-NN, k = {k}, top-1 in percent: mean ± sample standard deviation over the finished seeds. '
        '"Last" is the last epoch. "Best" is the best epoch of each seed, in brackets; it is chosen on the same '
        'images, so it is optimistic. "Random init" is the network before training. "Hidden" is the share of hidden '
        'patches of the global views, mean over the run. Seconds are wall time, over all resumes of a cell. '
        f'The numbers of every cell, and its command, are in {NAME}.csv.'
    )


def _mean(values: Iterable[float | None]) -> str:
    return str(spread(values) or NOTHING)
