"""Charts as SVG, drawn by hand: text stays text, colours follow the page's light or dark mode, nothing is loaded."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mstkit.report.markup import Html, element, number
from mstkit.report.scales import Point, domain, linear_ticks, log_ticks, scale, smooth, thin

# A chart is as wide as a phone's screen and is scaled up from there, so that its text can be read on both.
WIDTH, HEIGHT = 360, 220
LEFT, RIGHT, TOP, BOTTOM = 46, 350, 10, 186
STYLES = 8  # colours, and as many dashes and marks; see style.py
EVERY_POINT = 20  # up to here each point has its mark

# Around (0, 0), each about as heavy as the others.
MARKS = (
    'M-3.2 0a3.2 3.2 0 1 0 6.4 0a3.2 3.2 0 1 0 -6.4 0z',
    'M-2.8 -2.8h5.6v5.6h-5.6z',
    'M0 -3.8L3.6 2.7H-3.6z',
    'M0 -4L4 0L0 4L-4 0z',
    'M0 3.8L3.6 -2.7H-3.6z',
    'M-1.2 -3.6h2.4v2.4h2.4v2.4h-2.4v2.4h-2.4v-2.4h-2.4v-2.4h2.4z',
    'M-3.4 -1.8L-1.8 -3.4L0 -1.6L1.8 -3.4L3.4 -1.8L1.6 0L3.4 1.8L1.8 3.4L0 1.6L-1.8 3.4L-3.4 1.8L-1.6 0z',
    'M0 -4.2L1.2 -1.3L4.2 -1.2L1.9 0.7L2.6 3.6L0 2L-2.6 3.6L-1.9 0.7L-4.2 -1.2L-1.2 -1.3z',
)


@dataclass(frozen=True)
class Line:
    """A curve.

    Attributes:
        name: in the legend.
        points: in order of x; values that are not finite leave a gap.
        style: number of its colour, dash and mark.
        behind: curves that it is the mean of, drawn faintly.
    """

    name: str
    points: Sequence[Point]
    style: int
    behind: Sequence[Sequence[Point]] = ()


@dataclass(frozen=True)
class Chart:
    """Curves over the same x.

    Attributes:
        title: what is shown.
        lines: at least one, with at least one finite value among them.
        x: what the curves run over, ``'epoch'`` or ``'iteration'``.
        unit: of the values.
        levels: horizontal lines, by what they mean.
        note: a sentence below it.
        smoothed: a long curve also gets its running mean.
    """

    title: str
    lines: Sequence[Line]
    x: str = 'epoch'
    unit: str = ''
    levels: dict[str, float] | None = None
    note: str = ''
    smoothed: bool = True

    def finite(self) -> list[Point]:
        """Every point that can be drawn."""
        curves = [curve for line in self.lines for curve in (line.points, *line.behind)]
        return [point for curve in curves for point in curve if math.isfinite(point[1])]

    def wide(self) -> bool:
        """A logarithmic axis would show more of it."""
        values = [y for _, y in self.finite()]
        return min(values) > 0 and max(values) > 4 * min(values)


def draw(chart: Chart, identity: str) -> Html:
    """The picture of a chart, with a title and a description; a second, logarithmic one in it where that is useful."""
    xs = [x for x, _ in chart.finite()]
    across = (min(xs), max(xs)) if min(xs) < max(xs) else (min(xs) - 1, max(xs) + 1)
    to_x = scale(across, (LEFT, RIGHT))
    layers = [element('g', _layer(chart, to_x, logarithmic=False), class_='linear')]
    if chart.wide():
        layers.append(element('g', _layer(chart, to_x, logarithmic=True), class_='logarithmic'))
    return element(
        'svg',
        element('title', chart.title, id=f'{identity}-title'),
        element('desc', describe(chart), id=f'{identity}-desc'),
        _x_axis(across, to_x, chart.x),
        layers,
        element('line', class_='cursor', x1=0, x2=0, y1=TOP, y2=BOTTOM),
        viewBox=f'0 0 {WIDTH} {HEIGHT}',
        role='img',
        aria_labelledby=f'{identity}-title {identity}-desc',
        data_ends=f'{across[0]!r} {across[1]!r}',
        data_edges=f'{LEFT / WIDTH:.5f} {RIGHT / WIDTH:.5f}',
        data_width=WIDTH,
    )


def swatch(style: int) -> Html:
    """A piece of a line, for the legend."""
    return element(
        'svg',
        element('path', d='M1 6H31', class_='line'),
        element('path', d=MARKS[style % STYLES], transform='translate(16 6)', class_='mark'),
        viewBox='0 0 32 12',
        class_=f'swatch {style_class(style)}',
        aria_hidden='true',
        focusable='false',
    )


def style_class(style: int) -> str:
    """The classes of a style; past the last colour they begin again with other dashes."""
    return f'c{style % STYLES} d{(style + style // STYLES) % STYLES}'


def describe(chart: Chart) -> str:
    """What a chart shows, in words."""
    words = []
    for line in chart.lines:
        finite = [point for point in line.points if math.isfinite(point[1])]
        if not finite:
            words.append(f'{line.name}: no finite value.')
            continue
        low, high = min(finite, key=lambda point: point[1]), max(finite, key=lambda point: point[1])
        lost = len(line.points) - len(finite)
        words.append(
            f'{line.name}: {number(finite[0][1])} at {chart.x} {number(finite[0][0])}, {number(finite[-1][1])} at '
            f'{chart.x} {number(finite[-1][0])}, lowest {number(low[1])} at {number(low[0])}, highest '
            f'{number(high[1])} at {number(high[0])}{f", {lost} values not finite" if lost else ""}.'
        )
    unit = f' ({chart.unit})' if chart.unit else ''
    levels = [f'{name} is at {number(value)}.' for name, value in (chart.levels or {}).items()]
    return ' '.join([f'{chart.title}{unit} over {chart.x}s.', *words, *levels])


def _x_axis(across: tuple[float, float], to_x: Callable[[float], float], unit: str) -> Html:
    ticks = linear_ticks(*across, about=5, whole=True) or [across[0]]
    texts = [element('text', number(tick, 7), x=f'{to_x(tick):.1f}', y=BOTTOM + 15) for tick in ticks]
    strokes = ''.join(f'M{to_x(tick):.1f} {BOTTOM}v4' for tick in ticks)
    return element(
        'g',
        element('path', d=f'M{LEFT} {BOTTOM}H{RIGHT}{strokes}', class_='axis'),
        texts,
        element('text', unit, x=(LEFT + RIGHT) / 2, y=HEIGHT - 4),
        class_='x',
    )


def _layer(chart: Chart, to_x: Callable[[float], float], logarithmic: bool) -> list[Html]:
    """Axis, levels and curves over one kind of y."""
    values = [y for _, y in chart.finite()]
    levels = {name: level for name, level in (chart.levels or {}).items() if level > 0 or not logarithmic}
    ends = domain([*values, *levels.values()], logarithmic)
    to_y = scale(ends, (BOTTOM, TOP), logarithmic)
    ticks = log_ticks(*ends) if logarithmic else linear_ticks(*ends, about=5)
    parts = [element('path', d=''.join(f'M{LEFT} {to_y(tick):.1f}H{RIGHT}' for tick in ticks), class_='grid')]
    parts.append(
        element(
            'g',
            (element('text', number(tick), x=LEFT - 5, y=f'{to_y(tick) + 4:.1f}') for tick in ticks),
            class_='y',
        )
    )
    for name, level in levels.items():
        y = to_y(level)
        parts.append(element('path', d=f'M{LEFT} {y:.1f}H{RIGHT}', class_='level'))
        parts.append(element('text', name, x=RIGHT, y=f'{y - 4 if y > TOP + 14 else y + 12:.1f}', class_='level-name'))
    for line in sorted(chart.lines, key=lambda line: -line.style):  # the first one lies on top
        drawn = _curve(line, to_x, to_y, chart.smoothed)
        parts.append(element('g', drawn, class_=f'{style_class(line.style)} curve', data_line=line.style))
    return parts


def _curve(line: Line, to_x: Callable[[float], float], to_y: Callable[[float], float], smoothed: bool) -> list[object]:
    """A line with its marks; of a long one the raw values, and their running mean over them."""
    placed = [(to_x(x), to_y(y) if math.isfinite(y) else math.nan) for x, y in thin(line.points)]
    faint = [element('path', d=_path(thin(c), to_x, to_y), class_='faint', data_points=len(c)) for c in line.behind]
    running = smooth(line.points) if smoothed else None
    if running is not None:
        raw = element('path', d=_path(thin(line.points), to_x, to_y), class_='raw', data_points=len(line.points))
        mean = [(to_x(x), to_y(y)) for x, y in thin(running[0])]
        return [*faint, raw, element('path', d=_path(thin(running[0]), to_x, to_y), class_='line'), _marks(line, mean)]
    drawn = element('path', d=_path(thin(line.points), to_x, to_y), class_='line', data_points=len(line.points))
    return [*faint, drawn, _marks(line, placed)]


def _path(points: Sequence[Point], to_x: Callable[[float], float], to_y: Callable[[float], float]) -> str:
    """Moves to the first point and to each one after a gap, and draws to the others."""
    words, pen = [], 'M'
    for x, y in points:
        if math.isfinite(y):
            words.append(f'{pen}{to_x(x):.1f} {to_y(y):.1f}')
            pen = 'L'
        else:
            pen = 'M'
    return ''.join(words)


def _marks(line: Line, placed: Sequence[Point]) -> list[Html]:
    """At every point of a short line, at a few of a long one, and always at its end."""
    finite = [point for point in placed if math.isfinite(point[1])]
    every = 1 if len(finite) <= EVERY_POINT else max(1, len(finite) // 6)
    shape = MARKS[line.style % STYLES]
    chosen = finite[::-1][::every]
    return [element('path', d=shape, transform=f'translate({x:.1f} {y:.1f})', class_='mark') for x, y in chosen]
