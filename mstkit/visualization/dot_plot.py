"""A dot plot that compares networks: one row per measure, one dot per network."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from mstkit.visualization.accuracy_curves import COLORS, MARKS
from mstkit.visualization.figure_layout import frame_rows, save_figure


def draw_dots(
    rows: Mapping[str, Mapping[str, float]],
    networks: Sequence[str],
    path: str | os.PathLike[str],
    xlabel: str = 'percent',
    deviations: Mapping[str, Mapping[str, float]] | None = None,
) -> None:
    """Draws the plot; the file is written atomically.

    Every network has its own color, marker and vertical offset within a row, so that equal values do not hide each
    other.

    Args:
        rows: values by row and network; missing ones have no dot.
        networks: in the order of the legend.
        path: of the image; its extension selects the format.
        xlabel: label of the horizontal axis.
        deviations: half widths of error bars, by row and network; optional.

    Raises:
        UsageError: an unknown image format.
    """
    from matplotlib.figure import Figure  # imported here: it is slow

    spread = 0.6 if len(networks) > 1 else 0.0
    lane = max(0.32, 0.13 * len(networks))  # inches
    figure = Figure(figsize=(8.0, 1.3 + lane * max(1, len(rows)) + 0.18 * len(networks)), layout='constrained')
    axes = figure.subplots()
    for place, network in enumerate(networks):
        shift = spread * (place / max(1, len(networks) - 1) - 0.5)
        shown = [(index, row) for index, row in enumerate(rows) if network in rows[row]]
        axes.errorbar(
            [rows[row][network] for _, row in shown],
            [index + shift for index, _ in shown],
            xerr=[(deviations or {}).get(row, {}).get(network, 0.0) for _, row in shown],
            linestyle='',
            marker=MARKS[place % len(MARKS)],
            color=COLORS[place % len(COLORS)],
            markersize=6,
            elinewidth=1.2,
            label=network,
            zorder=3,
        )
    axes.set_yticks(range(len(rows)), list(rows))
    frame_rows(axes, len(rows))
    axes.set_xlabel(xlabel)
    figure.legend(loc='outside lower center', ncols=min(3, len(networks)), fontsize=8, frameon=False)
    save_figure(figure, path)
