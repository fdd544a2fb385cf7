"""Charts, and where everything in them is drawn; ``templates/chart.html.j2`` writes the SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mstkit.report.chart_scales import Point, domain, linear_ticks, log_ticks, scale, smooth, thin
from mstkit.report.number_words import number

STYLES = 8  # colors, and as many dashes and marks; see templates/style.css
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


class Frame(NamedTuple):
    """The size of a chart, and the edges of what is inside its axes."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int


# As wide as a phone's screen, and scaled up from there, so that its text can be read on both.
FRAME = Frame(width=360, height=220, left=46, right=350, top=10, bottom=186)


@dataclass(frozen=True)
class Line:
    """A curve.

    Attributes:
        name: in the legend.
        points: in order of x; values that are not finite leave a gap.
        style: number of its color, dash and mark.
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


class Style(NamedTuple):
    """How a line looks.

    Attributes:
        number: of its color, dash and mark.
        classes: that give it color and dash.
        mark: the path of its mark, around (0, 0).
    """

    number: int
    classes: str
    mark: str


@dataclass(frozen=True)
class Curve:
    """A line as it is drawn.

    Attributes:
        style: of it.
        faint: paths of the curves that it is the mean of, and how many points each stands for.
        raw: the path of the values as logged where ``line`` is their running mean; empty otherwise.
        line: its path.
        count: how many points the path of the logged values stands for.
        marks: the places of its marks.
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
    """Everything over one kind of y axis.

    Attributes:
        kind: ``'linear'`` or ``'logarithmic'``.
        ticks: values on the axis, and where they are.
        levels: horizontal lines.
        curves: the last one lies on top.
    """

    kind: str
    ticks: Sequence[tuple[float, float]]
    levels: Sequence[Level]
    curves: Sequence[Curve]


@dataclass(frozen=True)
class Drawing:
    """Where everything of a chart is.

    Attributes:
        across: the ends of the x axis.
        ticks: values on it, and where they are.
        layers: a linear one, and a logarithmic one where that shows more.
        frame: around all of it.
    """

    across: tuple[float, float]
    ticks: Sequence[tuple[float, float]]
    layers: Sequence[Layer]
    frame: Frame = FRAME


def draw(chart: Chart) -> Drawing:
    """Places everything of a chart."""
    xs = [x for x, _ in chart.finite()]
    across = (min(xs), max(xs)) if min(xs) < max(xs) else (min(xs) - 1, max(xs) + 1)
    to_x = scale(across, (FRAME.left, FRAME.right))
    ticks = linear_ticks(*across, about=5, whole=True) or [across[0]]
    kinds = [False, True] if chart.wide() else [False]
    layers = [_layer(chart, to_x, logarithmic) for logarithmic in kinds]
    return Drawing(across, [(tick, to_x(tick)) for tick in ticks], layers)


def style(number: int) -> Style:
    """The style of a number; past the last color they begin again with other dashes."""
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


def _layer(chart: Chart, to_x: Callable[[float], float], logarithmic: bool) -> Layer:
    """Axis, levels and curves over one kind of y."""
    values = [y for _, y in chart.finite()]
    levels = {name: level for name, level in (chart.levels or {}).items() if level > 0 or not logarithmic}
    ends = domain([*values, *levels.values()], logarithmic)
    to_y = scale(ends, (FRAME.bottom, FRAME.top), logarithmic)
    ticks = log_ticks(*ends) if logarithmic else linear_ticks(*ends, about=5)
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
    """A line with its marks; of a long one the logged values, and their running mean over them."""
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
    """Moves to the first point and to each one after a gap, and draws to the others."""
    words, pen = [], 'M'
    for x, y in points:
        if math.isfinite(y):
            words.append(f'{pen}{to_x(x):.1f} {to_y(y):.1f}')
            pen = 'L'
        else:
            pen = 'M'
    return ''.join(words)


def _marks(placed: Sequence[Point]) -> Sequence[Point]:
    """At every point of a short line, at a few of a long one, and always at its end."""
    every = 1 if len(placed) <= EVERY_POINT else max(1, len(placed) // 6)
    return placed[::-1][::every]
