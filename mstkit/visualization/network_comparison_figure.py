"""Figure that compares networks: attention by head and block, CKA, and accuracy without the last blocks."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from mstkit.analysis.attention_measures import BlockMeasures
from mstkit.analysis.head_divergence import per_head
from mstkit.analysis.network_comparison import Comparison, NetworkMeasures
from mstkit.visualization.accuracy_curves import COLORS, MARKS
from mstkit.visualization.figure_layout import PanelStack

WIDTHS = {1: 5.2, 2: 3.6, 3: 3.0}  # inches of a panel, by the number of networks
NARROWEST = 2.6
DOTS, CURVES, LARGEST_HEAT = 1.8, 2.4, 2.9
FOR_LABELS = 0.35  # inches that a heat map is narrower than its column
EVEN = dict(color='0.35', linestyle=(0, (4, 2)), linewidth=1.1)
HEAD = dict(linestyle='', marker='o', markersize=4.2, alpha=0.5, markeredgewidth=0)
MEAN = dict(linestyle='-', linewidth=1.3, marker='o', markersize=6.5, markeredgecolor='white', markeredgewidth=0.8)


class _Row(NamedTuple):
    """A measure of each head: its name, its meaning, and the function that gets it from a block."""

    heading: str
    says: str
    ylabel: str
    heads: Callable[[BlockMeasures], Any]
    even: Callable[[BlockMeasures], float] | None
    from_zero: bool


ROWS = (
    _Row(
        'Attention distance: how far does a patch look?',
        'Distance to the other patches, weighted by the attention to them; mean over patches and images.',
        'pixels of the input',
        lambda block: block.distance,
        lambda block: block.uniform_distance,
        False,
    ),
    _Row(
        'Attention entropy: how widely is attention spread?',
        '0: a patch looks at a single patch; ln n: evenly at n patches.',
        'nats',
        lambda block: block.entropy,
        lambda block: block.uniform_entropy,
        False,
    ),
    _Row(
        'Divergence between heads: do they look at different things?',
        'KL divergence from a head to the others of its block, mean over those. 0: all heads do the same.',
        'nats',
        lambda block: per_head(block.divergence.kl),
        None,
        True,
    ),
)


def draw_comparison(
    comparison: Comparison, paths: Sequence[str | os.PathLike[str]], title: str, notes: Sequence[str] = ()
) -> None:
    """Draws the figure.

    Args:
        comparison: of one network or more.
        paths: files, such as a PNG and a PDF; the ending chooses the format.
        title: heading.
        notes: lines below it.
    """
    networks = comparison.networks
    stack = PanelStack(len(networks), WIDTHS.get(len(networks), NARROWEST))
    stack.words(title, 12, fontweight='bold')
    for note in notes:
        stack.words(note, color='0.3')
    stack.space(0.1)
    stack.panels(0.22, _draw_legend, count=1, width=stack.inner)
    stack.space(0.16)
    stack.column_words(
        [(network.name, dict(color=_color(index), fontweight='bold')) for index, network in enumerate(networks)], 10
    )
    stack.column_words([(network.about, dict(color='0.3')) for network in networks])
    for row in ROWS:
        _head(stack, row.heading, row.says)
        stack.panels(DOTS, lambda axes, row=row: _draw_heads(axes, row, networks))  # type: ignore[misc]
        stack.space(0.4)
    side = min(stack.width - FOR_LABELS, LARGEST_HEAT)
    _head(
        stack,
        'CKA within a network: how alike are its blocks?',
        'Whether two blocks find the same images alike. 1: the same, up to rotation and scale; 0: unrelated.',
    )
    within = [(network, network) for network in networks]
    stack.panels(side, lambda axes: _draw_heat(axes, within, comparison), width=side)
    for step, pairs in enumerate(_pairs(networks)):
        stack.space(0.45)
        if step == 0:
            _head(stack, 'CKA between networks: how alike are their blocks?', 'On the same images, the same scale.')
        stack.panels(side, lambda axes, p=pairs, bar=not step: _draw_heat(axes, p, comparison, bar), len(pairs), side)  # type: ignore[misc]
    stack.space(0.45)
    for metric in dict.fromkeys(curve.metric for curve in comparison.dropped):
        _draw_dropped_section(stack, comparison, metric)
    stack.save(paths)


def _head(stack: PanelStack, heading: str, says: str) -> None:
    stack.space(0.12)
    stack.words(heading, 9.5, fontweight='bold')
    stack.words(says, color='0.3')
    stack.space(0.07)


def _color(index: int) -> str:
    return COLORS[index % len(COLORS)]


def _draw_legend(axes: list[Any]) -> None:
    axes[0].axis('off')
    handles = [
        axes[0].plot([], [], color='0.2', label='one head', **HEAD)[0],
        axes[0].plot([], [], color='0.2', label='mean over the heads of a block', **MEAN)[0],
        axes[0].plot([], [], label='evenly spread attention', **EVEN)[0],
    ]
    axes[0].legend(
        handles=handles, loc='center left', ncols=3, fontsize=8, frameon=False, borderpad=0, bbox_to_anchor=(-0.01, 0.5)
    )


def _draw_heads(axes: list[Any], row: _Row, networks: Sequence[NetworkMeasures]) -> None:
    """One panel per network, all with the same y axis."""
    values = []
    for index, (panel, network) in enumerate(zip(axes, networks, strict=True)):
        heads = [np.asarray(row.heads(block)) for block in network.blocks]
        numbers = [block.block + 1 for block in network.blocks]
        panel.plot(
            np.repeat(numbers, [len(found) for found in heads]), np.concatenate(heads), color=_color(index), **HEAD
        )
        panel.plot(numbers, [found.mean() for found in heads], color=_color(index), zorder=3, **MEAN)
        values += [value for found in heads for value in found if np.isfinite(value)]
        if row.even is not None:
            even = [row.even(block) for block in network.blocks]
            values += even
            _draw_even(panel, numbers, even)
        _mark_stages(panel, network)
        panel.set_xlabel('block', fontsize=8, labelpad=1)
        _number_blocks(panel.set_xticks, numbers)
        panel.set_xlim(numbers[0] - 0.6, numbers[-1] + 0.6)
        panel.tick_params(labelsize=7.5)
        panel.grid(axis='y', alpha=0.3)
        if index:
            panel.tick_params(labelleft=False)
    axes[0].set_ylabel(row.ylabel, fontsize=8)
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    margin = 0.07 * ((high - low) or 1.0)
    for panel in axes:
        panel.set_ylim(-0.3 * margin if row.from_zero else max(low - margin, -margin), high + margin)


def _draw_even(panel: Any, numbers: Sequence[int], even: Sequence[float]) -> None:
    """A step for each block, because the value of uniform attention can differ between blocks."""
    edges = [numbers[0] - 0.5, *(number + 0.5 for number in numbers)]
    panel.stairs(even, edges, baseline=None, zorder=1, **EVEN)


def _mark_stages(panel: Any, network: NetworkMeasures) -> None:
    for before, after in zip(network.blocks, network.blocks[1:], strict=False):
        if before.stage != after.stage:
            panel.axvline(after.block + 0.5, color='0.75', linewidth=0.8, zorder=0)


def _number_blocks(set_ticks: Callable, numbers: Sequence[int]) -> None:
    """Every block, or every second, third … so that numbers never touch."""
    step = 1 + (len(numbers) - 1) // 12
    set_ticks(numbers[::step])


def _pairs(networks: Sequence[NetworkMeasures]) -> list[list[tuple[NetworkMeasures, NetworkMeasures]]]:
    """Each two networks once, in rows no longer than there are networks: neighbors first."""
    count, rows, seen = len(networks), [], set()
    for step in range(1, count // 2 + 1):
        row = []
        for index in range(count):
            one, two = sorted((index, (index + step) % count))
            if (one, two) not in seen:
                seen.add((one, two))
                row.append((networks[one], networks[two]))
        rows.append(row)
    return rows


def _draw_heat(
    axes: list[Any],
    pairs: Sequence[tuple[NetworkMeasures, NetworkMeasures]],
    comparison: Comparison,
    with_bar: bool = True,
) -> None:
    shown: Any = None
    colors = {network.name: _color(index) for index, network in enumerate(comparison.networks)}
    for panel, (one, two) in zip(axes, pairs, strict=True):
        matrix = np.asarray(comparison.cka[one.name, two.name])
        panel.set_facecolor('0.8')  # shown where CKA is undefined: a block with constant features
        extent = (0.5, matrix.shape[0] + 0.5, 0.5, matrix.shape[1] + 0.5)
        shown = panel.imshow(matrix.T, origin='lower', aspect='auto', vmin=0, vmax=1, cmap='magma', extent=extent)
        _number_blocks(panel.set_xticks, range(1, matrix.shape[0] + 1))
        _number_blocks(panel.set_yticks, range(1, matrix.shape[1] + 1))
        panel.tick_params(labelsize=7)
        if one is two:
            panel.set_xlabel('block', fontsize=8, labelpad=1)
            if panel is axes[0]:
                panel.set_ylabel('block', fontsize=8, labelpad=1)
        else:
            panel.set_xlabel(f'block of {_short(one.name)}', fontsize=8, labelpad=1, color=colors[one.name])
            panel.set_ylabel(f'block of {_short(two.name)}', fontsize=8, labelpad=1, color=colors[two.name])
    if not with_bar:
        return
    figure, box = axes[-1].figure, axes[-1].get_position()
    inch = 1 / figure.get_figwidth()
    bar = figure.add_axes((box.x1 + 0.1 * inch, box.y0, 0.12 * inch, box.height))
    figure.colorbar(shown, cax=bar).ax.tick_params(labelsize=7)
    bar.set_title('CKA', fontsize=7.5)


def _short(name: str, most: int = 24) -> str:
    """Shortens a long name in its middle, since the branch is at its end."""
    return name if len(name) <= most else f'{name[: most - most // 2 - 1]}…{name[-(most // 2) :]}'


def _in_words(metric: str) -> str:
    """Axis label of a metric of ``mstkit.evaluation``."""
    neighbors = re.fullmatch(r'k(\d+)_top1', metric)
    if neighbors:
        return f'k-NN top-1, % (k = {neighbors[1]})'
    return 'linear probe top-1, %' if metric == 'linear_best_top1' else metric


def _draw_dropped_section(stack: PanelStack, comparison: Comparison, metric: str) -> None:
    curves = [curve for curve in comparison.dropped if curve.metric == metric]
    says = 'The same measured again, with blocks taken away from the end.'
    if any(curve.where != 'end' for curve in curves):
        says += ' Dotted, for Swin: taken from the end of stage 3, and stage 4 kept.'
    _head(stack, 'Without the last blocks: what do they add?', says)

    def draw(axes: list[Any]) -> None:
        names = [network.name for network in comparison.networks]
        for curve in curves:
            index = names.index(curve.network)
            dash, label = ('-', _short(curve.network, 40)) if curve.where == 'end' else (':', None)
            axes[0].plot(
                *zip(*curve.points, strict=True), dash, color=_color(index), marker=MARKS[index % len(MARKS)],
                markersize=5, linewidth=1.5, label=label,
            )  # fmt: skip
        axes[0].set_xlabel('blocks dropped', fontsize=8)
        axes[0].set_ylabel(_in_words(metric), fontsize=8)
        axes[0].xaxis.get_major_locator().set_params(integer=True)
        axes[0].tick_params(labelsize=7.5)
        axes[0].grid(alpha=0.3)
        axes[0].legend(fontsize=8, frameon=False)

    stack.panels(CURVES, draw, count=1, width=stack.inner)
    stack.space(0.45)
