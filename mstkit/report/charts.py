"""Charts and the coordinates of everything in them; ``templates/chart.html.j2`` writes the SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mstkit.report.chart_scales import Point, domain, linear_ticks, log_ticks, scale, smooth, thin
from mstkit.report.number_words import number

STYLES = 8  # colors, and as many dashes and marks; see templates/style.css
EVERY_POINT = 20  # a curve of up to this many points has a mark at each point

# SVG paths of marks, centered at (0, 0), of about equal visual weight.
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


class Frame(NamedTuple):
    """The size of a chart, and the edges of its plot area, in px."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int


# The width of a phone's screen; scaled up on larger screens, so that the text is readable on both.
FRAME = Frame(width=360, height=220, left=46, right=350, top=10, bottom=186)
# Of the labels left of the plot area, in px: a digit of 11 px in the widest of the usual fonts, and the space around.
DIGIT, LABEL_GAP = 7, 8


@dataclass(frozen=True)
class Line:
    """A curve.

    Attributes:
        name: in the legend.
        points: in order of x; values that are not finite leave a gap.
        style: number of its color, dash and mark.
        behind: the curves of which it is the mean, drawn faintly.
    """

    name: str
    points: Sequence[Point]
    style: int
    behind: Sequence[Sequence[Point]] = ()


@dataclass(frozen=True)
class Chart:
    """Curves over the same x.

    Attributes:
        title: heading of the chart.
        lines: at least one, with at least one finite value among them.
        x: the unit of x, ``'epoch'`` or ``'iteration'``.
        unit: of the values.
        levels: values of horizontal lines, by their labels.
        note: a sentence below the chart.
        smoothed: draw the running mean of a long curve too.
    """

    title: str
    lines: Sequence[Line]
    x: str = 'epoch'
    unit: str = ''
    levels: dict[str, float] | None = None
    note: str = ''
    smoothed: bool = True

    def finite(self) -> list[Point]:
        """All points with finite values."""
        curves = [curve for line in self.lines for curve in (line.points, *line.behind)]
        return [point for curve in curves for point in curve if math.isfinite(point[1])]

    def wide(self) -> bool:
        """Whether a logarithmic axis helps: values are positive, and the largest is over 4 times the smallest."""
        values = [y for _, y in self.finite()]
        return min(values) > 0 and max(values) > 4 * min(values)


class Style(NamedTuple):
    """The style of a line.

    Attributes:
        number: of its color, dash and mark.
        classes: CSS classes of color and dash.
        mark: the SVG path of its mark, centered at (0, 0).
    """

    number: int
    classes: str
    mark: str


@dataclass(frozen=True)
class Curve:
    """A line as it is drawn.

    Attributes:
        style: of the line.
        faint: SVG paths of the curves of which it is the mean, each with its number of points before thinning.
        raw: the path of the logged values, if ``line`` is their running mean; otherwise empty.
        line: the path of the line.
        count: number of logged points before thinning.
        marks: coordinates of its marks.
    """

    style: Style
    faint: Sequence[tuple[str, int]]
    raw: str
    line: str
    count: int
    marks: Sequence[Point]


class Level(NamedTuple):
    """A horizontal line at ``y``, and the baseline of the name above or below it."""

    name: str
    y: float
    baseline: float


@dataclass(frozen=True)
class Layer:
    """The content of a chart for one kind of y axis.

    Attributes:
        kind: ``'linear'`` or ``'logarithmic'``.
        ticks: (value, coordinate) on the y axis.
        levels: horizontal lines.
        curves: the last one is on top.
    """

    kind: str
    ticks: Sequence[tuple[float, float]]
    levels: Sequence[Level]
    curves: Sequence[Curve]


@dataclass(frozen=True)
class Drawing:
    """The coordinates of a chart.

    Attributes:
        across: the ends of the x axis.
        ticks: (value, coordinate) on the x axis.
        layers: a linear one, and a logarithmic one if :meth:`Chart.wide`.
        frame: size and plot area.
    """

    across: tuple[float, float]
    ticks: Sequence[tuple[float, float]]
    layers: Sequence[Layer]
    frame: Frame = FRAME


def draw(chart: Chart) -> Drawing:
    """Computes the coordinates of a chart."""
    xs = [x for x, _ in chart.finite()]
    across = (min(xs), max(xs)) if min(xs) < max(xs) else (min(xs) - 1, max(xs) + 1)
    ticks = linear_ticks(*across, about=5, whole=True) or [across[0]]
    kinds = [False, True] if chart.wide() else [False]
    labels = [number(tick) for logarithmic in kinds for tick in _axis(chart, logarithmic)[1]]
    frame = FRAME._replace(left=max(FRAME.left, LABEL_GAP + DIGIT * max(map(len, labels), default=0)))
    to_x = scale(across, (frame.left, frame.right))
    layers = [_layer(chart, to_x, logarithmic) for logarithmic in kinds]
    return Drawing(across, [(tick, to_x(tick)) for tick in ticks], layers, frame)


def style(number: int) -> Style:
    """The style with a number; colors repeat with other dashes after the last one."""
    classes = f'c{number % STYLES} d{(number + number // STYLES) % STYLES}'
    return Style(number, classes, MARKS[number % STYLES])


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


def _axis(chart: Chart, logarithmic: bool) -> tuple[tuple[float, float], Sequence[float]]:
    """The ends of the y axis, and its ticks."""
    levels = [level for level in (chart.levels or {}).values() if level > 0 or not logarithmic]
    ends = domain([*(y for _, y in chart.finite()), *levels], logarithmic)
    return ends, log_ticks(*ends) if logarithmic else linear_ticks(*ends, about=5)


def _layer(chart: Chart, to_x: Callable[[float], float], logarithmic: bool) -> Layer:
    """Axis, levels and curves for a linear or a logarithmic y axis."""
    levels = {name: level for name, level in (chart.levels or {}).items() if level > 0 or not logarithmic}
    ends, ticks = _axis(chart, logarithmic)
    to_y = scale(ends, (FRAME.bottom, FRAME.top), logarithmic)
    placed = []
    for name, level in levels.items():
        y = to_y(level)
        placed.append(Level(name, y, y - 4 if y > FRAME.top + 14 else y + 12))
    return Layer(
        'logarithmic' if logarithmic else 'linear',
        [(tick, to_y(tick)) for tick in ticks],
        placed,
        [_curve(line, to_x, to_y, chart.smoothed) for line in sorted(chart.lines, key=lambda line: -line.style)],
    )


def _curve(line: Line, to_x: Callable[[float], float], to_y: Callable[[float], float], smoothed: bool) -> Curve:
    """A line with its marks; a long one is drawn as its running mean on top of the logged values."""
    logged = thin(line.points)
    running = smooth(line.points) if smoothed else None
    drawn = thin(running[0]) if running is not None else logged
    return Curve(
        style(line.style),
        [(_path(thin(curve), to_x, to_y), len(curve)) for curve in line.behind],
        _path(logged, to_x, to_y) if running is not None else '',
        _path(drawn, to_x, to_y),
        len(line.points),
        _marks([(to_x(x), to_y(y)) for x, y in drawn if math.isfinite(y)]),
    )


def _path(points: Sequence[Point], to_x: Callable[[float], float], to_y: Callable[[float], float]) -> str:
    """The SVG path of a curve, with gaps at values that are not finite."""
    words, pen = [], 'M'
    for x, y in points:
        if math.isfinite(y):
            words.append(f'{pen}{to_x(x):.1f} {to_y(y):.1f}')
            pen = 'L'
        else:
            pen = 'M'
    return ''.join(words)


def _marks(placed: Sequence[Point]) -> Sequence[Point]:
    """The marks of a line: every point of a short one, a few of a long one, and always the last point."""
    every = 1 if len(placed) <= EVERY_POINT else max(1, len(placed) // 6)
    return placed[::-1][::every]
