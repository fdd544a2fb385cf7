"""Layout of a figure with rows of panels and paragraphs of text, in inches from top to bottom."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mstkit.errors import UsageError
from mstkit.utils.files import write_atomically

LEFT, RIGHT, TOP, BOTTOM = 0.75, 0.85, 0.15, 0.1  # inches around everything
GAP = 0.3  # inches between columns
SPACING = 1.32  # line spacing relative to the font size
PER_INCH = 17.0  # characters of 8-point text per inch, a low estimate

Drawing = Callable[[list[Any]], None]


def save_figure(figure: Any, path: str | os.PathLike[str], dots_per_inch: int = 120) -> None:
    """Writes a figure of matplotlib atomically; the file's extension selects the format.

    Raises:
        UsageError: an unknown image format.
    """
    path = Path(path)
    formats = figure.canvas.get_supported_filetypes()
    kind = path.suffix.removeprefix('.').lower()
    if kind not in formats:
        raise UsageError(f'{path}: give a name that ends with one of {", ".join(f".{name}" for name in formats)}.')
    write_atomically(path, lambda file: figure.savefig(file, format=kind, dpi=dots_per_inch))


def frame_rows(axes: Any, count: int) -> None:
    """Draws what is around a panel whose rows are numbered from 0 on, the first on top: bands, grid, no frame."""
    for index in range(1, count, 2):
        axes.axhspan(index - 0.5, index + 0.5, color='0.95', zorder=0)
    axes.set_ylim(count - 0.5, -0.5)
    axes.grid(axis='x', alpha=0.4)
    axes.set_axisbelow(True)
    axes.spines[['top', 'right', 'left']].set_visible(False)
    axes.tick_params(axis='y', length=0)


class PanelStack:
    """Collects text and panels, then draws them in a figure of the height that they need.

    Sizes are fixed in inches instead of fitted, so that panels of a column are aligned whatever their labels are.

    Args:
        columns: number of panels in a row.
        width: of a panel, in inches.
    """

    def __init__(self, columns: int, width: float) -> None:
        self.columns, self.width = columns, width
        self.inner = columns * width + (columns - 1) * GAP
        self.top = TOP
        self.items: list[Callable[[Any, float, float], None]] = []

    def space(self, inches: float) -> None:
        """Adds vertical space."""
        self.top += inches

    def words(self, text: str, points: float = 8.0, **look: Any) -> None:
        """Adds a paragraph with automatic line breaks; ``look`` are arguments of matplotlib's ``Figure.text``."""
        lines = _wrapped(text, LEFT * 0.8 + self.inner, points)
        self._write(lines, points, LEFT * 0.2, look)
        self.top += len(lines) * points * SPACING / 72

    def column_words(self, texts: Sequence[tuple[str, dict[str, Any]]], points: float = 8.0) -> None:
        """Adds a paragraph above each column, with its arguments of ``Figure.text``."""
        wrapped = [_wrapped(text, self.width, points) for text, _ in texts]
        for column, (lines, (_, look)) in enumerate(zip(wrapped, texts, strict=True)):
            self._write(lines, points, self._left(column), look)
        self.top += max(map(len, wrapped)) * points * SPACING / 72

    def panels(self, height: float, draw: Drawing, count: int | None = None, width: float | None = None) -> None:
        """A row of panels.

        Args:
            height: in inches, without tick labels below.
            draw: is given the axes, from left to right.
            count: how many; by default one in each column.
            width: in inches; by default that of a column.
        """
        places = [(self._left(column), self.top) for column in range(self.columns if count is None else count)]
        width = self.width if width is None else width

        def place(figure: Any, wide: float, high: float) -> None:
            draw(
                [
                    figure.add_axes((left / wide, 1 - (top + height) / high, width / wide, height / high))
                    for left, top in places
                ]
            )

        self.items.append(place)
        self.top += height

    def save(self, paths: Sequence[str | os.PathLike[str]], dots_per_inch: int = 150) -> None:
        """Draws everything into each file, written atomically; the extension selects the format."""
        from matplotlib.figure import Figure  # imported here: it is slow

        wide, high = LEFT + self.inner + RIGHT, self.top + BOTTOM
        figure = Figure(figsize=(wide, high))
        for item in self.items:
            item(figure, wide, high)
        for path in paths:
            save_figure(figure, path, dots_per_inch)

    def _left(self, column: int) -> float:
        return LEFT + column * (self.width + GAP)

    def _write(self, lines: list[str], points: float, left: float, look: dict[str, Any]) -> None:
        top = self.top

        def write(figure: Any, wide: float, high: float) -> None:
            # Line by line from the baseline, so that texts in one row are aligned whatever letters they have.
            for number, line in enumerate(lines):
                baseline = top + (number * SPACING + 1) * points / 72
                figure.text(left / wide, 1 - baseline / high, line, fontsize=points, va='baseline', **look)

        self.items.append(write)


def _wrapped(text: str, inches: float, points: float) -> list[str]:
    """Lines that fit; a name that is longer than a line is broken."""
    return textwrap.wrap(text, max(8, int(inches * PER_INCH * 8 / points))) or ['']
