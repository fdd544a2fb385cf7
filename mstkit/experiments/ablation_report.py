"""The table of an ablation as Markdown and CSV, and its plot."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from mstkit.experiments.ablation import Plan
from mstkit.experiments.ablation_results import Result, read_result
from mstkit.experiments.job import FAILED
from mstkit.experiments.seed_statistics import Spread, mean_curve, spread
from mstkit.files import write_atomically
from mstkit.visualization import Curve, draw_curves

NAME = 'ablation'
NOTHING = '–'
USUAL_BRANCHES = ('student', 'teacher')


def write_report(plan: Plan, k: int) -> str:
    """Writes ``ablation.md``, ``ablation.csv`` and ``ablation.png`` from what is on the disk.

    Args:
        plan: the ablation.
        k: neighbours of the accuracies.

    Returns:
        The table, in Markdown.

    Raises:
        UsageError: a file in the folder of a cell was damaged.
    """
    results = [read_result(cell, k) for cell in plan.cells]
    table = markdown_table(results)
    drawn = any(result.curves for result in results)
    page = [f'# Ablation of {plan.base}', table, _explanation(k)]
    page += [_failures(results)] if any(result.record.get('status') == FAILED for result in results) else []
    page += [f'![k-NN over epochs]({NAME}.png)'] if drawn else []
    write_atomically(plan.folder / f'{NAME}.md', ('\n\n'.join(page) + '\n').encode())
    write_atomically(plan.folder / f'{NAME}.csv', csv_table(results, k).encode())
    if drawn:
        draw_report(results, plan.folder / f'{NAME}.png', k)
    return table


def by_choice(results: Sequence[Result]) -> dict[str, list[Result]]:
    """The cells of each choice, one per seed."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.cell.choice.name, []).append(result)
    return groups


def branches(results: Sequence[Result]) -> list[str]:
    """The networks that were measured."""
    return list(dict.fromkeys(branch for result in results for branch in result.curves) or USUAL_BRANCHES)


def markdown_table(results: Sequence[Result]) -> str:
    """One row per choice; accuracies in percent, mean ± sample standard deviation over the finished seeds."""
    accuracies = [f'{branch}, {which}' for branch in branches(results) for which in ('last', 'best')]
    headings = ['choice', *accuracies, 'random init', 'hidden, %', 's per cell', 'seeds finished', 'failed']
    lines = [f'| {" | ".join(headings)} |', '|' + ' --- |' * len(headings)]
    for name, group in by_choice(results).items():
        done = [result for result in group if result.finished]
        cells = [name]
        for branch in branches(results):
            cells.append(_shown(_accuracies([result.last(branch) for result in done])))
            best = [result.best(branch) for result in done]
            epochs = '/'.join(str(point[0]) for point in best if point)
            cells.append(_shown(_accuracies(best)) + (f' ({epochs})' if epochs else ''))
        hidden, seconds = spread(r.hidden for r in done), spread(r.record.get('seconds') for r in done)
        cells.append(_shown(spread(r.start() for r in done)))
        cells.append(f'{100 * hidden.mean:.1f}' if hidden else NOTHING)
        cells.append(f'{seconds.mean:.0f}' if seconds else NOTHING)
        cells.append(f'{len(done)} of {len(group)}')
        cells.append(str(sum(result.record.get('status') == FAILED for result in group)))
        lines.append(f'| {" | ".join(map(_escaped, cells))} |')
    return '\n'.join(lines)


def csv_table(results: Sequence[Result], k: int) -> str:
    """One row per cell, every number as it was measured."""
    out = io.StringIO()
    keys = list(results[0].cell.choice.words) if results else []
    writer = csv.writer(out, lineterminator='\n')
    measured = [
        f'{branch}_{what}' for branch in branches(results) for what in ('last', 'last_epoch', 'best', 'best_epoch')
    ]
    head = ['choice', *keys, 'seed', 'status', 'k', 'random_init']
    tail = ['hidden_fraction', 'seconds', 'jobs', 'exit_code', 'error', 'work_dir', 'command']
    writer.writerow([*head, *measured, *tail])
    for result in results:
        cell, record = result.cell, result.record
        row: list[object] = [cell.choice.name, *cell.choice.words.values(), cell.seed]
        row += [record.get('status', 'waiting'), k, result.start()]
        for branch in branches(results):
            for point in (result.last(branch), result.best(branch)):
                row += [point[1], point[0]] if point else [None, None]
        row += [result.hidden, *(record.get(name) for name in ('seconds', 'jobs', 'exit_code', 'error'))]
        writer.writerow([*row, cell.folder, record.get('command')])
    return out.getvalue()


def draw_report(results: Sequence[Result], path: Path, k: int) -> None:
    """A panel per branch, a line per choice: the mean of its seeds, and the seeds faintly behind it."""
    panels: dict[str, list[Curve]] = {branch: [] for branch in branches(results)}
    for number, (name, group) in enumerate(by_choice(results).items()):
        for branch, curves in panels.items():
            seeds = [result.curves[branch] for result in group if branch in result.curves]
            if seeds:
                curves.append(Curve(name, list(mean_curve(seeds).items()), number))
            if len(seeds) > 1:
                curves += [Curve(None, list(seed.items()), number, faint=True) for seed in seeds]
    start = spread(result.start() for result in results)
    drawn = {branch: curves for branch, curves in panels.items() if curves}
    draw_curves(drawn, path, f'k-NN top-1 (k = {k}), %', untrained=start.mean if start else None)


def _explanation(k: int) -> str:
    return (
        f'Weighted k-NN, k = {k}, top-1 in percent: mean ± sample standard deviation over the finished seeds. '
        '"Last" is the last epoch. "Best" is the best epoch of each seed, in brackets; it is chosen on the pictures '
        'that it is measured on, so it flatters. "Random init" is the network before training. "Hidden" is the share '
        'of the patches of the global views, mean over the run. Seconds are wall time, over all resumes of a cell. '
        f'The numbers of every cell, and its command, are in {NAME}.csv.'
    )


def _failures(results: Sequence[Result]) -> str:
    lines = ['| failed cell | exit code | what it said last |', '| --- | --- | --- |']
    for result in results:
        if result.record.get('status') == FAILED:
            said = _escaped(str(result.record.get('error')))
            lines.append(f'| {_escaped(result.cell.name)} | {result.record.get("exit_code")} | {said} |')
    return '\n'.join(lines)


def _accuracies(points: Sequence[tuple[int, float] | None]) -> Spread | None:
    return spread(point and point[1] for point in points)


def _shown(value: Spread | None) -> str:
    return NOTHING if value is None else str(value)


def _escaped(text: str) -> str:
    return text.replace('|', '\\|').replace('\n', ' ')
