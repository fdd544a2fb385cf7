"""A plot of differences with their intervals around zero: a panel per measurement, a row per choice."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mstkit.visualization.accuracy_curves import COLORS, MARKS
from mstkit.visualization.figure_layout import frame_rows, save_figure


class Estimate(NamedTuple):
    """A difference.

    Attributes:
        value: the dot.
        low, high: the line.
        single: values behind it, such as those of the seeds, as small faint dots.
        certain: whether the dot is filled; otherwise it is hollow.
    """

    value: float
    low: float
    high: float
    single: Sequence[float] = ()
    certain: bool = True


def draw_differences(
    panels: Mapping[str, Mapping[str, Mapping[str, Estimate]]], path: str | os.PathLike[str], xlabel: str
) -> None:
    """Draws the plot; the file is written atomically.

    Panels share their rows and their horizontal axis. Within a row every group has its own color, marker and height.

    Args:
        panels: estimates by panel, row and group; missing ones have no dot.
        path: of the image; its extension selects the format.
        xlabel: label of the horizontal axis.

    Raises:
        UsageError: an unknown image format.
    """
    from matplotlib.figure import Figure  # imported here: it is slow
    from matplotlib.lines import Line2D

    rows = list(dict.fromkeys(row for panel in panels.values() for row in panel))
    groups = list(dict.fromkeys(group for panel in panels.values() for row in panel.values() for group in row))
    spread = 0.5 if len(groups) > 1 else 0.0
    height = 1.5 + max(0.34, 0.2 * len(groups)) * max(1, len(rows)) + (0.2 * len(groups) if len(groups) > 1 else 0)
    figure = Figure(figsize=(2.0 + 2.7 * len(panels), height), layout='constrained')
    axes_of = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (title, panel) in zip(axes_of, panels.items(), strict=True):
        axes.axvline(0, color='0.4', linewidth=1, zorder=1)
        for place, group in enumerate(groups):
            color, mark = COLORS[place % len(COLORS)], MARKS[place % len(MARKS)]
            shift = spread * (place / max(1, len(groups) - 1) - 0.5)
            for index, row in enumerate(rows):
                found = panel.get(row, {}).get(group)
                if found is None:
                    continue
                y = index + shift
                axes.plot([found.low, found.high], [y, y], color=color, linewidth=1.6, zorder=2)
                singles = [y] * len(found.single)
                axes.plot(found.single, singles, linestyle='', marker='|', color=color, alpha=0.5, zorder=2)
                face = color if found.certain else 'white'
                axes.plot([found.value], [y], marker=mark, color=color, markerfacecolor=face, markersize=6, zorder=3)
        axes.set_title(title, fontsize=10)
        frame_rows(axes, len(rows))
    axes_of[0].set_yticks(range(len(rows)), rows)
    figure.supxlabel(f'{xlabel}\nline: 95 %, bars: single seeds, hollow: not told apart', fontsize=9)
    if len(groups) > 1:
        handles = [
            Line2D([], [], color=COLORS[place % len(COLORS)], marker=MARKS[place % len(MARKS)], label=group)
            for place, group in enumerate(groups)
        ]
        figure.legend(handles=handles, loc='outside upper center', ncols=min(3, len(groups)), fontsize=8, frameon=False)
    save_figure(figure, path)
