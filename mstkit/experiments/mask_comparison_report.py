"""The page of masks against random ones: verdicts, accuracies, differences and their plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mstkit.experiments.ablation import Plan
from mstkit.experiments.ablation_report import NAME, by_choice, read_result
from mstkit.experiments.cell_evaluations import RANDOM, CellEvaluation
from mstkit.experiments.job_results import NOTHING, csv_rows, markdown_rows
from mstkit.experiments.mask_comparison import (
    MEASURES,
    MaskComparison,
    caveat,
    compare_masks,
    hit_tables,
    overall,
    signed,
)
from mstkit.experiments.seed_statistics import spread
from mstkit.utils.files import write_atomically
from mstkit.visualization.difference_plot import Estimate, draw_differences

PLOT = f'{NAME}_differences.png'


def comparison_paragraphs(
    plans: Sequence[Plan], evaluations: Sequence[CellEvaluation], folder: Path, k: int
) -> list[str]:
    """The paragraphs about measured cells, beside which tables and plot are written into the folder.

    Args:
        plans: one per method.
        evaluations: of all of them.
        folder: for ``ablation_differences.png``, ``ablation_differences.csv`` and ``ablation_measurements.csv``.
        k: number of neighbors of the accuracies in the tables of cells.

    Raises:
        UsageError: a file in the folder of a cell is damaged.
    """
    if not evaluations:
        return []
    of = {plan.name: [job for job in evaluations if job.method == plan.name] for plan in plans}
    comparisons = [one for plan in plans for one in compare_masks(plan, of[plan.name])]
    write_atomically(folder / f'{NAME}_measurements.csv', _measurements(evaluations).encode())
    page: list[str] = []
    for plan in plans:
        own = [one for one in comparisons if one.method == plan.name]
        if own:
            page.append(f'{plan.name}: {overall(own)}' if plan.name else overall(own))
    if comparisons:
        panels = {
            MEASURES.get(measure, measure): _panel([one for one in comparisons if one.measure == measure])
            for measure in dict.fromkeys(one.measure for one in comparisons)
        }
        draw_differences(panels, folder / PLOT, 'choice minus random of the same count, points')
        write_atomically(folder / f'{NAME}_differences.csv', _differences_csv(comparisons).encode())
        page.append(f'![differences to random masks of the same count]({PLOT})')
    page.append(accuracy_table(plans, of, k))
    if comparisons:
        page += [difference_table(comparisons), *_sentences(comparisons), caveat(comparisons)]
    return page


def accuracy_table(plans: Sequence[Plan], of: dict[str, list[CellEvaluation]], k: int) -> str:
    """A row per choice, and one for random weights: accuracies, what was hidden, seconds, seeds."""
    measures = list(dict.fromkeys(job.measure for jobs in of.values() for job in jobs))
    rows = []
    for plan in plans:
        accuracies = hit_tables(of[plan.name])
        groups = by_choice([read_result(cell, k) for cell in plan.cells])
        for name in (*groups, RANDOM):
            done = [result for result in groups.get(name, []) if result.finished]
            row = [plan.name] if len(plans) > 1 else []
            row += [name, plan.twins.get(name, NOTHING)]
            row += [str(spread(accuracies.get((name, measure), {}).values()) or NOTHING) for measure in measures]
            hidden, seconds = spread(one.hidden for one in done), spread(one.record.get('seconds') for one in done)
            row.append(f'{100 * hidden.mean:.1f}' if hidden else NOTHING)
            row.append(f'{seconds.mean:.0f}' if seconds else NOTHING)
            # Of random weights no training ends, so its seeds are those that are measured.
            seeds = done if name != RANDOM else accuracies.get((RANDOM, measures[0]), {})
            rows.append([*row, str(len(seeds))])
    headings = [*(['method'] if len(plans) > 1 else []), 'choice', 'compared with']
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


def _measurements(evaluations: Sequence[CellEvaluation]) -> str:
    rows = []
    for job in evaluations:
        record, hits = job.record(), job.hits()
        rows.append(
            dict(
                method=job.method,
                network=job.group,
                seed=job.seed,
                measurement=job.measure,
                metric=hits.metric if hits else None,
                status=record.get('status', 'waiting'),
                accuracy=hits.accuracy if hits else None,
                images=len(hits.hits) if hits else None,
                seconds=record.get('seconds'),
                error=record.get('error'),
                hits=job.hits_file,
                command=record.get('command'),
            )
        )
    return csv_rows(rows)
