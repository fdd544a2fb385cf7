"""The figure of what trainings of a fixed time have learned: k-NN from random weights to the end of the training."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from contest.learned import PEER, Learned
from mstkit.visualization.accuracy_curves import COLORS
from mstkit.visualization.figure_layout import frame_rows, save_figure

METRIC = 'knn'


def draw_learned(
    learned: Mapping[str, Sequence[Learned]], path: str | os.PathLike[str], titles: Mapping[str, str]
) -> None:
    """Draws a panel for each folder that judged and a row for each method, by its best branch there.

    The methods stand in the order of the first panel, the one that has learned most on top.

    Args:
        learned: by folder; see :func:`contest.learned.read_learned`.
        path: of the image; its extension selects the format.
        titles: of the panels; the names of the folders where there is none.

    Raises:
        UsageError: an unknown image format.
    """
    from matplotlib.figure import Figure  # imported here: it is slow
    from matplotlib.lines import Line2D

    panels = {judge: _best_branches(rows) for judge, rows in learned.items()}
    first = next(iter(panels.values()))
    names = sorted({name for panel in panels.values() for name in panel}, key=lambda name: -_height(first, name))
    figure = Figure(figsize=(2.4 + 2.7 * len(panels), 1.3 + 0.34 * len(names)), layout='constrained')
    axes_of = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (judge, panel) in zip(axes_of, panels.items(), strict=True):
        for y, name in enumerate(names):
            if name in panel:
                _draw_row(axes, panel[name], y)
        axes.set_title(titles.get(judge, judge), fontsize=10)
        frame_rows(axes, len(names))
    axes_of[0].set_yticks(range(len(names)), names)
    figure.supxlabel('k-NN, %', fontsize=9)
    handles = [
        Line2D([], [], color='0.3', marker='o', markerfacecolor='white', linestyle='', label='random weights'),
        Line2D([], [], color='0.3', marker='o', linestyle='', label='after training'),
        Line2D([], [], color='0.3', marker='|', linestyle='', label='single seeds'),
    ]
    figure.legend(handles=handles, loc='outside upper center', ncols=3, fontsize=8, frameon=False)
    save_figure(figure, path)


def _best_branches(learned: Sequence[Learned]) -> dict[str, Learned]:
    best: dict[str, Learned] = {}
    for one in learned:
        if one.name not in best or one.mean(METRIC) > best[one.name].mean(METRIC):
            best[one.name] = one
    return best


def _height(panel: Mapping[str, Learned], name: str) -> float:
    return panel[name].mean(METRIC) if name in panel else 0.0


def _draw_row(axes: Any, one: Learned, y: int) -> None:
    color = COLORS[1] if one.method.startswith(PEER) else COLORS[0]
    before, after = one.mean(METRIC, after=False), one.mean(METRIC)
    seeds = [pair[1] for pair in one.accuracies[METRIC]]
    axes.plot([before, after], [y, y], color=color, linewidth=1.6, zorder=2)
    axes.plot(seeds, [y] * len(seeds), linestyle='', marker='|', markersize=9, color=color, alpha=0.6, zorder=2)
    axes.plot([before], [y], marker='o', color=color, markerfacecolor='white', markersize=6, zorder=3)
    axes.plot([after], [y], marker='o', color=color, markersize=6, zorder=3)
