"""The results of a suite as a table: a row per number, a column per network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mstkit.evaluation.suite import SuiteResult

NOTHING = '–'
FAILED = 'failed'
DEVIATION = '_std'
DETAIL = '/'  # a metric with this in its name is not in tables, only in the JSON file


def markdown_table(results: Sequence[SuiteResult]) -> str:
    """A Markdown table with a column per network; ``x_std`` is shown as ± after ``x``."""
    lines = [
        f'| evaluation | metric | {" | ".join(_escaped(result.name) for result in results)} |',
        '| --- | --- |' + ' ---: |' * len(results),
    ]
    for evaluation, metric in rows_of(results):
        cells = [cell(result, evaluation, metric) for result in results]
        lines.append(f'| {_escaped(evaluation)} | {_escaped(metric)} | {" | ".join(cells)} |')
    return '\n'.join(lines)


def plain_table(results: Sequence[SuiteResult]) -> str:
    """The same table with aligned columns, for a terminal."""
    head = ['evaluation', 'metric', *(result.name for result in results)]
    table = [head, *([*row, *(cell(result, *row) for result in results)] for row in rows_of(results))]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    return '\n'.join('  '.join(map(_aligned, range(len(row)), row, widths)).rstrip() for row in table)


def rows_of(results: Sequence[SuiteResult]) -> list[tuple[str, str]]:
    """Evaluation and metric of every row; an evaluation that failed for all networks has one row with metric ``''``.

    Metrics with :data:`DETAIL` in their name, such as ``lr0.1/best_top1``, have no row.
    """
    found: dict[str, dict[str, None]] = {}
    for result in results:
        for evaluation in [*result.metrics, *result.failed]:
            metrics = result.metrics.get(evaluation, {})
            shown = [name for name in metrics if DETAIL not in name and not _is_deviation(name, metrics)]
            found.setdefault(evaluation, {}).update(dict.fromkeys(shown))
    return [(evaluation, metric) for evaluation, metrics in found.items() for metric in metrics or ('',)]


def cell(result: SuiteResult, evaluation: str, metric: str) -> str:
    """The text of a table cell: a rounded number with its deviation, ``failed``, or a dash."""
    if evaluation in result.failed:
        return FAILED
    metrics = result.metrics.get(evaluation, {})
    if metric not in metrics:
        return NOTHING
    deviation = metrics.get(metric + DEVIATION)
    return number(metrics[metric]) + ('' if deviation is None else f' ± {number(deviation)}')


def number(value: float) -> str:
    """Formats a number with two decimals if it is at least 1, else with four significant digits."""

    return f'{value:.2f}' if value == 0 or abs(value) >= 1 else f'{value:.4g}'


def _aligned(column: int, text: str, width: int) -> str:
    return text.ljust(width) if column < 2 else text.rjust(width)


def _is_deviation(name: str, metrics: Mapping[str, float]) -> bool:
    return name.endswith(DEVIATION) and name.removesuffix(DEVIATION) in metrics


def _escaped(text: str) -> str:
    return text.replace('|', r'\|')
