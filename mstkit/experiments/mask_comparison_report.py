"""The page of masks against random ones: verdicts, accuracies, differences and their plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mstkit.experiments.ablation_report import NAME
from mstkit.experiments.cell_evaluations import RANDOM
from mstkit.experiments.job_results import NOTHING, csv_rows, markdown_rows
from mstkit.experiments.mask_comparison import (
    MEASURES,
    MaskComparison,
    caveat,
    compare_masks,
    overall,
    signed,
)
from mstkit.experiments.mask_results import MaskResults
from mstkit.experiments.seed_statistics import spread
from mstkit.utils.files import write_atomically
from mstkit.visualization.difference_plot import Estimate, draw_differences

PLOT = f'{NAME}_differences.png'


def comparison_paragraphs(methods: Sequence[MaskResults], folder: Path) -> list[str]:
    """The paragraphs about measured masks, beside which the differences and their plot are written into the folder.

    Args:
        methods: what was measured, by method; nothing is said without any measurement.
        folder: for ``ablation_differences.png`` and ``ablation_differences.csv``.

    Raises:
        UsageError: measurements of one method are of other images.
    """
    if not any(results.hits for results in methods):
        return []
    comparisons = [one for results in methods for one in compare_masks(results)]
    page: list[str] = []
    for results in methods:
        own = [one for one in comparisons if one.method == results.method]
        if own:
            page.append(f'{results.method}: {overall(own)}' if results.method else overall(own))
    if comparisons:
        panels = {
            MEASURES.get(measure, measure): _panel([one for one in comparisons if one.measure == measure])
            for measure in dict.fromkeys(one.measure for one in comparisons)
        }
        draw_differences(panels, folder / PLOT, 'choice minus random of the same count, points')
        write_atomically(folder / f'{NAME}_differences.csv', _differences_csv(comparisons).encode())
        page.append(f'![differences to random masks of the same count]({PLOT})')
    page.append(accuracy_table(methods))
    if comparisons:
        page += [difference_table(comparisons), *_sentences(comparisons), caveat(comparisons)]
    return page


def accuracy_table(methods: Sequence[MaskResults]) -> str:
    """A row per choice, and one for random weights: accuracies, what was hidden, seconds, seeds."""
    measures = list(dict.fromkeys(measure for results in methods for measure in results.measures))
    rows = []
    for results in methods:
        for name in results.networks:
            accuracies = {measure: results.accuracies(name, measure) for measure in measures}
            done = results.cells(name)
            row = [results.method] if len(methods) > 1 else []
            row += [name, results.twins.get(name, NOTHING)]
            row += [str(spread(accuracies[measure].values()) or NOTHING) for measure in measures]
            hidden, seconds = spread(one.hidden for one in done), spread(one.seconds for one in done)
            row.append(f'{100 * hidden.mean:.1f}' if hidden else NOTHING)
            row.append(f'{seconds.mean:.0f}' if seconds else NOTHING)
            # Of random weights no training ends, so its seeds are those that are measured.
            rows.append([*row, str(len(done if name != RANDOM else accuracies[measures[0]]))])
    headings = [*(['method'] if len(methods) > 1 else []), 'choice', 'compared with']
    headings += [f'{MEASURES.get(measure, measure)}, %' for measure in measures]
    return markdown_rows([*headings, 'hidden, %', 's per cell', 'seeds'], rows)


def difference_table(comparisons: Sequence[MaskComparison]) -> str:
    """A row per choice and measurement: the difference, both intervals, p, and the verdict."""
    several = len({one.method for one in comparisons}) > 1
    rows = []
    for one in comparisons:
        found = one.difference
        row = [one.method] if several else []
        row += [one.choice, MEASURES.get(one.measure, one.measure), signed(found.points)]
        row.append(f'[{signed(found.low)}, {signed(found.high)}]')
        alone = found.seeds_low is not None and found.seeds_high is not None
        row.append(f'[{signed(found.seeds_low or 0)}, {signed(found.seeds_high or 0)}]' if alone else NOTHING)
        row.append(f'{one.adjusted:.3f}' if one.adjusted >= 0.001 else '< 0.001')
        rows.append([*row, str(len(one.seeds)), one.verdict])
    headings = ['method'] if several else []
    headings += ['choice', 'measurement', 'difference', '95 % interval', 'seeds alone (t)', 'p, corrected', 'seeds']
    return markdown_rows([*headings, 'verdict'], rows)


def _sentences(comparisons: Sequence[MaskComparison]) -> list[str]:
    """A list of the masks that are told apart, with their verdicts; nothing if there are none."""
    lines = []
    for one in comparisons:
        if one.told_apart:
            name = ', '.join(filter(None, [one.method, one.choice, MEASURES.get(one.measure, one.measure)]))
            lines.append(f'- {name}: {one.words()}')
    return ['\n'.join(lines)] if lines else []


def _panel(comparisons: Sequence[MaskComparison]) -> dict[str, dict[str, Estimate]]:
    rows: dict[str, dict[str, Estimate]] = {}
    for one in comparisons:
        found = one.difference
        estimate = Estimate(found.points, found.low, found.high, found.per_seed, one.told_apart)
        rows.setdefault(one.choice, {})[one.method] = estimate
    return rows


def _differences_csv(comparisons: Sequence[MaskComparison]) -> str:
    rows = []
    for one in comparisons:
        found = one.difference
        rows.append(
            dict(
                method=one.method,
                choice=one.choice,
                twin=one.twin,
                measurement=one.measure,
                seeds=' '.join(map(str, one.seeds)),
                images=found.images,
                points=found.points,
                low=found.low,
                high=found.high,
                seeds_low=found.seeds_low,
                seeds_high=found.seeds_high,
                per_seed=' '.join(f'{value:.4f}' for value in found.per_seed),
                p=found.p,
                p_corrected=one.adjusted,
                verdict=one.words(),
            )
        )
    return csv_rows(rows)
