"""Plots accuracy over epochs, with colors for all kinds of color vision and a legend outside of the axes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mstkit.visualization.figure_layout import save_figure

# Okabe and Ito's palette, which the common kinds of color blindness keep apart, with a gray for its yellow, which is
# too pale for a line. Each color has its own mark as well.
COLORS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000', '#8C8C8C')
MARKS = ('o', 's', '^', 'D', 'v', 'P', 'X', '*')
DASHES = ('-', '--', ':', '-.')


class Curve(NamedTuple):
    """One line.

    Attributes:
        label: its entry in the legend; None for no entry.
        points: (epoch, percent), in order; epoch 0 is the untrained network and gets a hollow marker.
        color: index of its color; beyond the last color, colors repeat with another dash pattern.
        dash: index of its dash pattern; by default it follows from the color.
        faint: whether it is a thin line behind the others, such as one seed behind a mean.
    """

    label: str | None
    points: Sequence[tuple[float, float]]
    color: int
    dash: int | None = None
    faint: bool = False


def draw_curves(
    panels: Mapping[str, Sequence[Curve]],
    path: str | os.PathLike[str],
    ylabel: str = 'k-NN top-1, %',
    untrained: float | None = None,
    xlabel: str = 'epoch (0: random init)',
) -> None:
    """Draws panels side by side, with one legend beside them; the file is written atomically.

    Args:
        panels: curves by title; panels share their axes.
        path: of the image; its extension selects the format.
        ylabel: label of the vertical axis.
        xlabel: label of the horizontal axis.
        untrained: accuracy without training, for a dotted horizontal line.

    Raises:
        UsageError: an unknown image format.
    """
    from matplotlib.figure import Figure  # imported here: it is slow, and most runs draw no curves

    figure = Figure(figsize=(2.2 + 4.2 * len(panels), 3.6), layout='constrained')
    row = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (title, curves) in zip(row, panels.items(), strict=True):
        for curve in sorted(curves, key=lambda curve: not curve.faint):
            _draw(axes, curve)
        if untrained is not None:
            axes.axhline(
                untrained, color='0.4', linestyle=(0, (1, 2)), linewidth=1.2, label='random init, mean', zorder=1
            )
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(xlabel)
        axes.grid(alpha=0.3)
    row[0].set_ylabel(ylabel)
    entries = {label: handle for axes in row for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    if entries:
        figure.legend(list(entries.values()), list(entries), loc='outside right upper', fontsize=8, frameon=False)
    save_figure(figure, path)


def _draw(axes: Any, curve: Curve) -> None:
    color = COLORS[curve.color % len(COLORS)]
    dash = DASHES[(curve.color // len(COLORS) if curve.dash is None else curve.dash) % len(DASHES)]
    epochs, values = zip(*curve.points, strict=True) if curve.points else ((), ())
    if curve.faint:
        axes.plot(epochs, values, dash, color=color, linewidth=0.8, alpha=0.35, zorder=2)
        return
    look = dict(color=color, marker=MARKS[curve.color % len(MARKS)])
    axes.plot(epochs, values, dash, linewidth=1.6, markersize=3.5, label=curve.label, zorder=3, **look)
    if epochs and epochs[0] == 0:
        axes.plot(0, values[0], linestyle='', markerfacecolor='white', markersize=5.5, zorder=4, **look)
