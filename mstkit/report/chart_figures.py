"""A chart with its legend, description, notes and a table of its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mstkit.report.chart_scales import choose_rows, smooth, thin, value_at
from mstkit.report.charts import Chart, Drawing, Style, describe, draw, style
from mstkit.report.number_words import NOTHING, number, several, slug


@dataclass(frozen=True)
class Figure:
    """A chart as the page shows it.

    Attributes:
        identity: a unique id on the page.
        chart: the chart.
        drawing: its coordinates.
        description: of the chart, in words.
        newest: the last x; the script replaces it by the one under the pointer.
        legend: style, name and newest value of each line.
        notes: sentences about how it is drawn, such as smoothing.
        rows: its numbers as a table, x first.
        rows_note: says which rows are left out; empty if none.
    """

    identity: str
    chart: Chart
    drawing: Drawing
    description: str
    newest: str
    legend: list[tuple[Style, str, str]]
    notes: list[str]
    rows: list[list[str]]
    rows_note: str


def figures(charts: Sequence[Chart], place: str) -> list[Figure]:
    """Prepares charts for the page.

    Args:
        charts: with at least one value each.
        place: the section of the page, which makes ids unique.
    """
    return [figure(chart, place) for chart in charts]


def figure(chart: Chart, place: str) -> Figure:
    """Prepares one chart; the arguments are those of :func:`figures`."""
    newest = max((line.points[-1][0] for line in chart.lines if line.points), default=0)
    shown, total = choose_rows([line.points for line in chart.lines])
    rows = []
    for x in shown:
        found = [value_at(line.points, x) for line in chart.lines]
        rows.append([_at(x), *(NOTHING if value is None else number(value, 5) for value in found)])
    left_out = f'{len(rows)} of {total} rows: evenly spaced ones, and where each curve is lowest and highest.'
    return Figure(
        slug(f'{place} {chart.title}'),
        chart,
        draw(chart),
        describe(chart),
        _at(newest),
        [(style(o.style), o.name, number(o.points[-1][1]) if o.points else NOTHING) for o in chart.lines],
        _notes(chart),
        rows,
        left_out if len(rows) < total else '',
    )


def _notes(chart: Chart) -> list[str]:
    notes = [chart.note] if chart.note else []
    means = sorted({running[1] for line in chart.lines if (running := smooth(line.points))})
    if means and chart.smoothed:
        notes.append(f'Thick: running mean of {several([str(mean) for mean in means])} values; thin: as logged.')
    counts = [(len(thin(line.points)), len(line.points)) for line in chart.lines]
    if any(drawn < logged for drawn, logged in counts):
        drawn, logged = max(counts, key=lambda count: count[1])
        notes.append(f'Thinned: {drawn} of {logged} points are drawn, lowest and highest ones always.')
    if any(line.behind for line in chart.lines):
        notes.append('Strong lines are means over the seeds, faint ones single seeds.')
    return notes


def _at(x: float) -> str:
    """An epoch or an iteration with at most two decimals."""
    return f'{x:.2f}'.rstrip('0').rstrip('.')
