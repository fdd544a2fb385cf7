"""The content of a page about one run, section by section; templates of the same names show it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from mstkit.report.chart_figures import figures
from mstkit.report.evaluation_results import Evaluation
from mstkit.report.number_words import duration, number, plain, several
from mstkit.report.panel_sheets import panels
from mstkit.report.run_charts import charts_of
from mstkit.report.run_configs import argument, highlights, part
from mstkit.report.run_facts import RunRecord
from mstkit.report.run_numbers import accuracies, hidden_share, training_seconds
from mstkit.report.run_verdict import COLLAPSED, FINE, divergence, verdict


class Section(NamedTuple):
    """A part of the page with a heading.

    Attributes:
        title: the heading.
        place: its anchor.
        template: file in the folder ``templates/sections``.
        facts: variables of the template; empty or None for a section that is left out.
    """

    title: str
    place: str
    template: str
    facts: Any


def run_sections(run: RunRecord) -> list[Section]:
    """The sections of the page of one run; empty ones are left out."""
    charts = {place: figures(some, place) for place, some in charts_of(run).items()}
    sections = [
        Section('Accuracy', 'accuracy', 'accuracy', _any(charts=charts.get('accuracy', []), table=all_neighbors(run))),
        Section('Collapse', 'collapse', 'collapse', judged(run, charts.get('collapse', []))),
        Section('Panels', 'panels', 'panels', panels([run], 'panels', rows=8)),
        Section('Masks', 'masks', 'masks', _any(charts=charts.get('masks', []), card=masks(run))),
        Section('Training', 'training', 'charts', charts.get('training')),
        Section('Evaluations', 'evaluation', 'evaluations', evaluations([('', one) for one in run.evaluations])),
        Section('Configuration', 'configuration', 'configuration', configuration(run)),
        Section('Environment', 'environment', 'environment', environment(run)),
        Section('Run it again', 'again', 'again', run.command()),
    ]
    return [section for section in sections if section.facts]


def _any(**facts: Any) -> dict[str, Any]:
    return facts if any(facts.values()) else {}


def tiles(run: RunRecord) -> list[tuple[str, str, str]]:
    """The most important numbers: (name, value, further details)."""
    shown: list[tuple[str, str, str]] = []
    for name, start, last, best in accuracies(run)[:4]:
        more = [f'best {best[1]:.1f} ({run.unit} {number(best[0], 7)})'] if best[1] > last[1] else []
        more += [f'{start:.1f} before training'] if start is not None else []
        shown.append((name, f'{last[1]:.1f} %', ', '.join(more)))
    hidden = hidden_share(run)
    if hidden:
        shown.append(('hidden patches', f'{hidden[0]:.1f} %', 'mean over the run'))
    word, _ = verdict(run)
    if run.collapse:
        short = 'no sign' if word == FINE else 'signs' if word == COLLAPSED else 'open'
        shown.append(('collapse', short, f'after epoch {run.collapse[-1]["epoch"]}'))
    seconds = training_seconds(run)
    if seconds:
        per = run.scalars.training[-1].get('time')
        shown.append(('time of training', duration(seconds), f'{number(per, 3)} s an iteration at the end'))
    return shown


def failure(run: RunRecord) -> dict[str, str | None]:
    """Why a run did not finish: its error message, and since when its losses were not finite."""
    since = divergence(run)
    return {} if run.state == 'finished' or not (run.error or since) else dict(error=run.error, since=since)


def judged(run: RunRecord, charts: Sequence[Any]) -> dict[str, Any]:
    """The verdict on collapse, in words, and the charts on which it is based."""
    if not run.collapse:
        return {}
    word, sentences = verdict(run)
    tone = {FINE: 'good', COLLAPSED: 'bad'}.get(word, 'warn')
    return dict(word=word, sentences=sentences, tone=tone, charts=charts)


def all_neighbors(run: RunRecord) -> dict[str, Any]:
    """Accuracy for every k at the last measurement; empty if there is only one k."""
    if not run.knn:
        return {}
    branches = {name: values for name, values in run.knn[-1]['branches'].items() if isinstance(values, dict)}
    ks = dict.fromkeys(name for values in branches.values() for name in values if name.endswith('_top1'))
    rows = [
        [name.removeprefix('k').removesuffix('_top1'), *(_percent(values.get(name)) for values in branches.values())]
        for name in ks
    ]
    return dict(epoch=run.knn[-1]['epoch'], headings=['k', *branches], rows=rows) if len(ks) > 1 else {}


def masks(run: RunRecord) -> dict[str, Any]:
    """The masker of the config with its settings, and the share of hidden patches."""
    masker = part(run.config, 'model.masker')
    rows: list[tuple[str, str]] = []
    if isinstance(masker, dict):
        rows.append(('masker', str(masker.get('type'))))
        rows += [(name.replace('_', ' '), plain(value)) for name, value in masker.items() if name != 'type']
        if argument(masker, 'needs_scores', None) is not None:
            rows.append(('needs scores', str(argument(masker, 'needs_scores'))))
    elif run.config is not None and part(run.config, 'model.teacher') is not None:
        rows.append(('masker', 'none: nothing is hidden'))
    hidden = hidden_share(run)
    if hidden and isinstance(masker, dict):
        mean, low, high = hidden
        rows.append(('hidden, mean over the run', f'{mean:.2f} %'))
        rows.append(('lowest and highest epoch', f'{low:.2f} % and {high:.2f} %'))
    return dict(rows=rows, has_masker=bool(masker)) if rows else {}


def evaluations(results: Sequence[tuple[str, Evaluation]]) -> dict[str, Any]:
    """Results of evaluations: a row per metric, a column per network.

    Args:
        results: pairs of a prefix of the network's name, such as the run, and a result.
    """
    if not results:
        return {}
    headings = [', '.join(filter(None, (before, result.name))) for before, result in results]
    main: list[list[str]] = []
    rest: list[list[str]] = []
    metrics = dict.fromkeys(
        (evaluation, metric) for _, one in results for evaluation, values in one.metrics.items() for metric in values
    )
    for evaluation, metric in metrics:
        values = [result.metrics.get(evaluation, {}).get(metric) for _, result in results]
        leads = [result.headlines.get(evaluation) for _, result in results]
        first = any(metric in lead for lead in leads if lead) or not any(leads)
        (main if first else rest).append([f'{evaluation}: {metric}', *(number(value, 4) for value in values)])
    notes = [
        f'{heading}: {several([word for word in result.data if word]) or "data not named"}'
        f'{f", {result.date}" if result.date else ""}'
        for heading, (_, result) in zip(headings, results, strict=True)
    ]
    failed = [
        f'{heading}: {evaluation} failed: {reason}'
        for heading, (_, result) in zip(headings, results, strict=True)
        for evaluation, reason in result.failed.items()
    ]
    return dict(headings=['metric', *headings], main=main, rest=rest, failed=failed, notes=notes)


def configuration(run: RunRecord) -> dict[str, Any]:
    """The main settings, the notes and warnings of the start, and the whole config."""
    seed, given = run.events.seed, part(run.config, 'randomness.seed')
    is_drawn = seed is not None and run.config and given is None
    drawn = [f'seed {seed}, drawn because the config has none'] if is_drawn else []
    return _any(
        chosen=[*drawn, *run.events.chosen] if run.events.chosen else [],
        warnings=[f'{text}{f" ({count} times)" if count > 1 else ""}' for text, count in run.events.warnings.items()],
        settings=highlights(run.config) if run.config else [],
        text=run.config_text,
    )


def environment(run: RunRecord) -> list[tuple[str, str]]:
    """Versions and machine, as mmengine lists them."""
    # mmengine's 'GPU number' is the number of processes, with or without GPUs.
    return [('processes' if name == 'GPU number' else name, value) for name, value in run.events.environment.items()]


def _percent(value: float | None) -> str:
    return number(None) if value is None else f'{value:.2f}'
