"""The content of a page that compares runs, section by section."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mstkit.experiments.mask_comparison_report import PLOT
from mstkit.report import page_sections
from mstkit.report.chart_figures import figures
from mstkit.report.charts import style
from mstkit.report.markdown_blocks import blocks
from mstkit.report.number_words import NOTHING, duration, number, slug
from mstkit.report.page_sections import Section
from mstkit.report.panel_sheets import embed, panels
from mstkit.report.report_sources import Comparison
from mstkit.report.run_charts import Group, charts_comparing
from mstkit.report.run_configs import differences
from mstkit.report.run_facts import RunRecord
from mstkit.report.run_numbers import accuracies, hidden_share, mean_of, training_seconds
from mstkit.report.run_verdict import COLLAPSED, FINE, progress, verdict

MOST_PANELS = 8  # runs whose panels are shown
LONGEST = 120  # characters of a value of a config


def comparison_sections(comparison: Comparison, before: str = '') -> list[Section]:
    """The sections of a comparison; empty ones are left out.

    Args:
        comparison: the runs.
        before: prefix of every title, for a page with several comparisons.
    """
    groups, runs = comparison.groups, comparison.runs
    place = slug(comparison.title)
    charts = charts_comparing(groups, comparison.k)
    drawn = {name: figures(some, f'{place} {name}') for name, some in charts.items()}
    shown = [runs[0] for _, runs in groups][:MOST_PANELS]
    collapse = dict(runs=verdicts(runs), charts=drawn.get('collapse', []))
    content: list[tuple[str, str, Any]] = [
        ('Summary', 'summary', dict(overview=overview(groups, comparison.k), page=own_page(comparison.page))),
        ('Predictions', 'predictions', predictions(comparison.images)),
        ('Accuracy', 'charts', drawn.get('accuracy')),
        ('Collapse', 'collapses', collapse if any(collapse.values()) else {}),
        ('Masks', 'charts', drawn.get('masks')),
        ('Panels', 'panels', panels(shown, f'{place}-panels', rows=2 if len(shown) > 3 else 4)),
        ('Training', 'charts', drawn.get('training')),
        (
            'Evaluations',
            'evaluations',
            page_sections.evaluations([(run.name, one) for run in runs for one in run.evaluations]),
        ),
        ('Differences', 'differences', differing(groups)),
        ('Each run', 'each_run', [each(run) for run in runs]),
    ]
    return [
        Section(f'{before}{title}', slug(f'{place} {title}'), template, facts)
        for title, template, facts in content
        if facts
    ]


def overview(groups: Sequence[Group], k: int | None) -> dict[str, Any]:
    """A table with a row per group: its progress, accuracies and training time."""
    reached = [[{one.name: one for one in accuracies(run, k)} for run in group.runs] for group in groups]
    names = list(dict.fromkeys(name for group in reached for run in group for name in run))
    hidden = any(hidden_share(run) for group in groups for run in group.runs)
    started = any(one.start is not None for group in reached for run in group for one in run.values())
    headings = ['', 'state', *(f'{name}, {what}, %' for name in names for what in ('last', 'best'))]
    headings += ['before training, %'] if started else []
    headings += ['hidden, %'] if hidden else []
    headings += ['time of training']
    rows = []
    for index, (group, results) in enumerate(zip(groups, reached, strict=True)):
        row = [_states(group)]
        for name in names:
            row.append(_spread([run[name].last[1] if name in run else None for run in results]))
            row.append(_spread([run[name].best[1] if name in run else None for run in results]))
        if started:
            starts = [next((o.start for o in run.values() if o.start is not None), None) for run in results]
            row.append(_spread(starts))
        shares = [hidden_share(run) for run in group.runs]
        row += [_spread([share[0] if share else None for share in shares])] if hidden else []
        seconds = mean_of([training_seconds(run) for run in group.runs])
        row.append(duration(seconds.mean) if seconds else NOTHING)
        rows.append(dict(name=group.name, style=style(index), cells=row))
    return dict(headings=headings, rows=rows, seeds=any(len(group.runs) > 1 for group in groups))


def own_page(path: Path | None) -> dict[str, Any]:
    """The Markdown page that tools/ablate.py or tools/transfer.py wrote: its tables, text and images."""
    if path is None:
        return {}
    found = blocks(path.read_text(encoding='utf-8', errors='replace'))
    images = {block['file']: embed(path.parent / block['file']) for block in found if block['kind'] == 'image'}
    # A page of masks against random ones begins with what was found: it is shown first, and not folded.
    return dict(name=path.name, blocks=found, images=images, verdict=PLOT in images)


def predictions(files: Sequence[Path]) -> list[dict[str, Any]]:
    """The images of predictions that tools/transfer.py drew."""
    found = [(file.stem.replace('_', ' '), embed(file)) for file in files]
    return [dict(name=name, image=image) for name, image in found if image is not None]


def verdicts(runs: Sequence[RunRecord]) -> dict[str, Any]:
    """The runs that show signs of collapse, those that do not, and those for which it is too early to say."""
    judged = [(run.name, *verdict(run)) for run in runs if run.collapse]
    if not judged:
        return {}
    return dict(
        bad=[(name, sentences) for name, word, sentences in judged if word == COLLAPSED],
        fine=[f'{name}: {" ".join(sentences)}' for name, word, sentences in judged if word == FINE],
        early=[name for name, word, _ in judged if word not in (FINE, COLLAPSED)],
        count=len(judged),
    )


def differing(groups: Sequence[Group]) -> dict[str, Any]:
    """Settings and environment in which the groups differ, compared by the first run of each group."""
    runs = [group.runs[0] for group in groups]
    if len(runs) < 2:
        return {}
    known = [run.config for run in runs]
    environments = [run.events.environment for run in runs]
    keys = dict.fromkeys(key for one in environments for key in one)
    versions = [[key, *(one.get(key, NOTHING) for one in environments)] for key in keys]
    return dict(
        names=[group.name for group in groups],
        comparable=all(known),
        settings=[[path, *map(_short, values)] for path, values in differences(known)] if all(known) else [],
        environment=[row for row in versions if len(set(row[1:])) > 1],
    )


def each(run: RunRecord) -> dict[str, Any]:
    """The details of one run of a comparison."""
    return dict(
        run=run,
        progress=progress(run),
        failed=page_sections.failure(run),
        again=run.command(),
        configuration=page_sections.configuration(run),
        environment=page_sections.environment(run),
    )


def _states(group: Group) -> str:
    if len(group.runs) == 1:
        (run,) = group.runs
        where = f'{number(run.reached, 5)} of {run.length}' if run.length else number(run.reached, 5)
        return f'{run.state}, {where} {run.unit}s'
    counts: dict[str, int] = {}
    for run in group.runs:
        counts[run.state] = counts.get(run.state, 0) + 1
    return ', '.join(f'{count}\N{NO-BREAK SPACE}{state}' for state, count in counts.items())


def _spread(values: Sequence[float | None]) -> str:
    found = mean_of(values)
    return NOTHING if found is None else str(found).replace(' ', '\N{NO-BREAK SPACE}')


def _short(value: str | None) -> str:
    if value is None:
        return 'not set'
    return value if len(value) <= LONGEST else f'{value[:LONGEST]}…'
