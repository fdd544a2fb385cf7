"""The sections of a page that compares runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mstkit.report import sections
from mstkit.report.charts import swatch
from mstkit.report.configs import differences
from mstkit.report.curves import Group, charts_comparing
from mstkit.report.facts import accuracies, hidden_share, mean_of, training_seconds
from mstkit.report.figures import gallery
from mstkit.report.markdown import to_html
from mstkit.report.markup import NOTHING, Html, bullets, duration, element, folded, joined, number, table
from mstkit.report.panel_section import panels
from mstkit.report.panels import embed
from mstkit.report.run import RunRecord
from mstkit.report.sources import Comparison
from mstkit.report.verdict import COLLAPSED, FINE, progress, verdict

MOST_PANELS = 8  # runs whose panels are shown
LONGEST = 120  # characters of a value of a config


def comparison_sections(comparison: Comparison, before: str = '') -> list[tuple[str, str, Html]]:
    """Title, anchor and content of each section.

    Args:
        comparison: what is compared.
        before: goes in front of every title, where the page has several comparisons.
    """
    groups, runs = comparison.groups, comparison.runs
    charts = charts_comparing(groups, comparison.k)
    place = sections.place_of(comparison.title)
    page = own_page(comparison.page) if comparison.page else Html()
    shown = [runs[0] for _, runs in groups][:MOST_PANELS]
    content = {
        'Summary': joined([overview(groups, comparison.k), page]),
        'Predictions': predictions(comparison.pictures),
        'Accuracy': gallery(charts.get('accuracy', []), f'{place} accuracy'),
        'Collapse': joined([verdicts(runs), gallery(charts.get('collapse', []), f'{place} collapse')]),
        'Masks': gallery(charts.get('masks', []), f'{place} masks'),
        'Panels': panels(shown, f'{place}-panels', rows=2 if len(shown) > 3 else 4),
        'Training': gallery(charts.get('training', []), f'{place} training'),
        'Evaluations': sections.evaluations([(run.name, result) for run in runs for result in run.evaluations]),
        'Differences': differing(groups),
        'Each run': joined(each(run) for run in runs),
    }
    return [(f'{before}{title}', sections.place_of(place, title), body) for title, body in content.items() if body]


def overview(groups: Sequence[Group], k: int | None) -> Html:
    """A row per group: how far it came and what it reached."""
    reached = [[{one.name: one for one in accuracies(run, k)} for run in group.runs] for group in groups]
    names = list(dict.fromkeys(name for group in reached for run in group for name in run))
    hidden = any(hidden_share(run) for group in groups for run in group.runs)
    headings = ['', 'state', *(f'{name}, {what}, %' for name in names for what in ('last', 'best'))]
    started = any(one.start is not None for group in reached for run in group for one in run.values())
    headings += ['before training, %'] if started else []
    headings += ['hidden, %'] if hidden else []
    headings += ['time of training']
    rows = []
    for style, (group, results) in enumerate(zip(groups, reached, strict=True)):
        row: list[object] = [element('span', swatch(style), ' ', group.name, class_='named'), _states(group)]
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
        rows.append(row)
    many = any(len(group.runs) > 1 for group in groups)
    notes = ['Best: the highest of the measurements after training began; on few pictures it flatters.']
    notes += ['Mean ± sample standard deviation over the seeds, unfinished ones included.'] if many else []
    caption = 'What the runs reached'
    return element(
        'div',
        table(headings, rows, caption, class_='overview'),
        element('p', ' '.join(notes), class_='note'),
        class_='card',
    )


def own_page(path: Path) -> Html:
    """What the tool that trained the runs wrote: its table, its words, its pictures."""

    def picture(words: str, file: str) -> Html:
        found = embed(path.parent / file)
        if found is None:
            return element('p', f'{file} cannot be read.', class_='note')
        source, (width, height) = found
        return element('p', element('img', src=source, alt=words, width=width, height=height, class_='whole'))

    body = to_html(path.read_text(encoding='utf-8', errors='replace'), picture)
    return element('div', folded(f'{path.name}, as the tool wrote it', body, opened=False), class_='card')


def predictions(files: Sequence[Path]) -> Html:
    """What the networks of a transfer predict, as tools/transfer.py drew it."""
    shown = []
    for file in files:
        found = embed(file)
        if found is not None:
            source, (width, height) = found
            words = f'{file.stem.replace("_", " ")}: pictures with what each network predicts'
            shown.append(element('img', src=source, alt=words, width=width, height=height, class_='whole'))
    return joined(shown)


def verdicts(runs: Sequence[RunRecord]) -> Html:
    """Those that show signs of collapse at length, the others by their number."""
    judged = [(run, verdict(run)) for run in runs if run.collapse]
    if not judged:
        return Html()
    bad = [(run, sentences) for run, (word, sentences) in judged if word == COLLAPSED]
    fine = [run for run, (word, _) in judged if word == FINE]
    parts: list[Html] = []
    for run, sentences in bad:
        heading = element('p', f'{run.name}: signs of collapse', class_='word')
        parts.append(element('div', heading, (element('p', said) for said in sentences), class_='card verdict bad'))
    if fine:
        words = f'No sign of collapse in {len(fine)} of {len(judged)} runs'
        detail = bullets(f'{run.name}: {" ".join(verdict(run)[1])}' for run in fine)
        parts.append(
            element(
                'div',
                element('p', words, class_='word'),
                folded('The numbers of each', detail),
                class_='card verdict good',
            )
        )
    early = [run.name for run, (word, _) in judged if word not in (FINE, COLLAPSED)]
    if early:
        parts.append(element('p', f'Too early to say: {", ".join(early)}.'))
    return joined(parts)


def differing(groups: Sequence[Group]) -> Html:
    """Settings and environment in which the groups differ, seen at the first run of each."""
    runs = [group.runs[0] for group in groups]
    if len(runs) < 2:
        return Html()
    names = [group.name for group in groups]
    parts = []
    known = [run.config for run in runs]
    if all(known):
        rows = [[path, *map(_short, values)] for path, values in differences(known)]
        same = 'All settings are the same, apart from where the runs wrote.'
        shown = table(['setting', *names], rows, 'Settings that differ', class_='differ')
        parts.append(element('div', shown, class_='card') if rows else element('p', same))
    else:
        parts.append(element('p', 'The configs cannot be compared: not every run has a complete one.'))
    environments = [run.log.environment for run in runs]
    keys = dict.fromkeys(key for one in environments for key in one)
    rows = [[key, *(one.get(key, NOTHING) for one in environments)] for key in keys]
    rows = [row for row in rows if len(set(row[1:])) > 1]
    if rows:
        parts.append(element('h3', 'Environment'))
        parts.append(element('div', table(['', *names], rows, 'Environments that differ'), class_='card'))
    return joined(parts)


def each(run: RunRecord) -> Html:
    """What is known of one of many runs, folded."""
    body = [
        element('p', progress(run)),
        sections.failure(run),
        sections.missing(run.missing),
        element('h3', 'Run it again'),
        sections.again(run),
        sections.configuration(run),
        folded('Environment', sections.environment(run)) if run.log.environment else None,
    ]
    return folded(joined([run.name, ' ', sections.badge(run.state)]), body)


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
