"""A chart with all that belongs to it: legend, values to read, switches, and the same numbers as a table."""

from __future__ import annotations

from collections.abc import Sequence

from mstkit.report.charts import Chart, describe, draw, swatch
from mstkit.report.markup import NOTHING, Html, element, folded, joined, number, several, slug, table
from mstkit.report.scales import choose_rows, smooth, thin, value_at


def figure(chart: Chart, place: str) -> Html:
    """Draws a chart for the page.

    Args:
        chart: with something in it.
        place: tells it from other charts of the same title.
    """
    identity = slug(f'{place} {chart.title}')
    heading = [element('h3', chart.title)]
    if chart.wide():
        box = element('input', type='checkbox', class_='log', id=f'{identity}-log')
        heading.append(element('label', box, ' logarithmic', class_='switch', for_=f'{identity}-log'))
    plot = element(
        'div',
        draw(chart, identity),
        class_='plot',
        tabindex=0,
        role='group',
        aria_label=f'{chart.title}: left and right arrow read the values',
    )
    return element(
        'figure',
        element('figcaption', heading),
        element('p', chart.unit, class_='unit') if chart.unit else None,
        plot,
        _legend(chart),
        element('p', ' '.join(_notes(chart)), class_='note') if _notes(chart) else None,
        folded('Numbers', element('p', describe(chart), class_='note'), _values(chart)),
        class_='chart',
        id=identity,
    )


def gallery(charts: Sequence[Chart], place: str, *beside: Html) -> Html:
    """Charts side by side, as many as fit, and what else belongs to them."""
    shown = joined([[figure(chart, place) for chart in charts], beside])
    return element('div', shown, class_='gallery') if shown else Html()


def _legend(chart: Chart) -> Html:
    """Each line with its newest value, which the script replaces by the one under the pointer."""
    items = []
    for line in chart.lines:
        last = number(line.points[-1][1]) if line.points else NOTHING
        items.append(
            element(
                'li',
                swatch(line.style),
                element('span', line.name),
                ' ',
                element('output', last),
                data_line=line.style,
            )
        )
    at = max((line.points[-1][0] for line in chart.lines if line.points), default=0)
    where = element('p', f'{chart.x} ', element('output', _at(at)), class_='where', aria_live='polite')
    return element('div', where, element('ul', items, class_='legend'))


def _notes(chart: Chart) -> list[str]:
    """What one has to know about how it is drawn."""
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


def _values(chart: Chart) -> Html:
    rows, total = choose_rows([line.points for line in chart.lines])
    body = []
    for x in rows:
        found = [value_at(line.points, x) for line in chart.lines]
        body.append([_at(x), *(NOTHING if value is None else number(value, 5) for value in found)])
    shown = table([chart.x, *(line.name for line in chart.lines)], body, f'Values of {chart.title}', stacked=False)
    if total == len(rows):
        return shown
    note = f'{len(rows)} of {total} rows: evenly spaced ones, and where each curve is lowest and highest.'
    return element('div', element('p', note, class_='note'), shown)


def _at(x: float) -> str:
    """An epoch or an iteration, as fine as anybody reads it."""
    return f'{x:.2f}'.rstrip('0').rstrip('.')
