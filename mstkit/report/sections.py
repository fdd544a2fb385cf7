"""The sections of a page about one run, each from what was read to markup."""

from __future__ import annotations

from collections.abc import Sequence

from mstkit.report.configs import argument, highlights, part
from mstkit.report.evaluations import Evaluation
from mstkit.report.facts import accuracies, hidden_share, training_seconds
from mstkit.report.markup import (
    NOTHING,
    Html,
    bullets,
    duration,
    element,
    folded,
    joined,
    number,
    several,
    slug,
    table,
)
from mstkit.report.run import DIVERGED, GOING, STOPPED, RunRecord
from mstkit.report.verdict import COLLAPSED, FINE, divergence, progress, verdict

STATES = {
    'finished': ('✓', 'good'),
    'failed': ('✕', 'bad'),
    DIVERGED: ('✕', 'bad'),
    GOING: ('●', 'warn'),
    STOPPED: ('■', 'warn'),
}
VERDICTS = {FINE: 'good', COLLAPSED: 'bad'}
EXPLAINED = 'k-NN: an image gets the class of its nearest neighbours among the training images, by the features alone.'


def section(title: str, place: str, *content: object) -> Html:
    """A part of the page with a heading; nothing where it would be empty."""
    body = joined(content)
    return element('section', element('h2', title, id=place), body, aria_labelledby=place) if body else Html()


def badge(state: str) -> Html:
    """How a run ended, as a sign and a word."""
    sign, tone = STATES[state]
    return element('span', element('span', f'{sign} ', aria_hidden='true'), state, class_=f'badge {tone}')


def tiles(run: RunRecord) -> Html:
    """The few numbers that one looks for first."""
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
    items = (
        element('div', element('dt', name), element('dd', value, element('small', more) if more else None))
        for name, value, more in shown
    )
    return element('dl', items, class_='tiles') if shown else Html()


def missing(sentences: Sequence[str]) -> Html:
    """What is not on the page, and why."""
    if not sentences:
        return Html()
    heading = element('p', element('strong', 'Not on this page'))
    return element('div', heading, bullets(dict.fromkeys(sentences)), class_='card missing')


def failure(run: RunRecord) -> Html:
    """Why a run did not finish in order: what it said last, and since when its losses were not finite."""
    since = divergence(run)
    if run.state == 'finished' or not (run.error or since):
        return Html()
    said = (element('p', element('strong', 'It ended with')), element('pre', run.error)) if run.error else None
    return element('div', said, element('p', since) if since else None, class_='card')


def verdict_card(run: RunRecord) -> Html:
    """The verdict on collapse, in words."""
    word, sentences = verdict(run)
    tone = VERDICTS.get(word, 'warn')
    heading = element('p', f'{word[0].upper()}{word[1:]}', class_='word')
    return element('div', heading, (element('p', _capital(said)) for said in sentences), class_=f'card verdict {tone}')


def all_neighbours(run: RunRecord) -> Html:
    """Accuracy for every k at the last measurement."""
    if not run.knn:
        return Html()
    branches = {name: values for name, values in run.knn[-1]['branches'].items() if isinstance(values, dict)}
    ks = dict.fromkeys(name for values in branches.values() for name in values if name.endswith('_top1'))
    if len(ks) < 2:
        return Html()
    rows = [
        [name.removeprefix('k').removesuffix('_top1'), *(_percent(values.get(name)) for values in branches.values())]
        for name in ks
    ]
    title = f'Every k, epoch {run.knn[-1]["epoch"]}'
    rest = table(['k', *branches], rows, 'k-NN accuracy in percent by k', stacked=False)
    explained = element('p', EXPLAINED, class_='note')
    return element('div', element('h3', title), rest, explained, class_='card side')


def masks(run: RunRecord) -> Html:
    """What the config says about the mask, and how much was hidden."""
    masker = part(run.config, 'model.masker')
    rows: list[tuple[str, object]] = []
    if isinstance(masker, dict):
        rows.append(('masker', str(masker.get('type'))))
        rows += [(name.replace('_', ' '), _plain(value)) for name, value in masker.items() if name != 'type']
        if argument(masker, 'needs_attention', None) is not None:
            rows.append(('needs attention', str(argument(masker, 'needs_attention'))))
    elif run.config is not None and part(run.config, 'model.teacher') is not None:
        rows.append(('masker', 'none: nothing is hidden'))
    hidden = hidden_share(run)
    if hidden and isinstance(masker, dict):
        mean, low, high = hidden
        rows.append(('hidden, mean over the run', f'{mean:.2f} %'))
        rows.append(('lowest and highest epoch', f'{low:.2f} % and {high:.2f} %'))
    if not rows:
        return Html()
    hint = 'Where a mask lies and how connected it is are not logged; tools/analysis/preview_masks.py measures it.'
    shown = table(['', ''], rows, 'The masker and how much it hid', class_='facts')
    return element('div', shown, element('p', hint, class_='note') if masker else None, class_='card')


def evaluations(results: Sequence[tuple[str, Evaluation]]) -> Html:
    """Results of evaluations: a row per metric, a column per network.

    Args:
        results: pairs of what goes in front of the network's name, such as a run, and a result.
    """
    if not results:
        return Html()
    headings = [', '.join(filter(None, (before, result.name))) for before, result in results]
    main: list[list[object]] = []
    rest: list[list[object]] = []
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
    columns = ['metric', *headings]
    return element(
        'div',
        table(columns, main, 'Results of the evaluations') if main else None,
        folded(f'{len(rest)} more numbers', table(columns, rest, 'More results')) if rest else None,
        bullets(failed) if failed else None,
        folded('Data and dates', bullets(notes)),
        class_='card',
    )


def configuration(run: RunRecord) -> Html:
    """What was set, what was chosen at the start, and the whole config."""
    parts = []
    if run.log.chosen:
        seed = run.log.environment.get('seed')
        given = part(run.config, 'randomness.seed')
        drawn = [f'seed {seed}, drawn because the config has none'] if seed and run.config and given is None else []
        parts.append(element('h3', 'Chosen and found at the start'))
        parts.append(element('div', bullets([*drawn, *run.log.chosen]), class_='card'))
    if run.log.warnings:
        lines = [f'{text}{f" ({count} times)" if count > 1 else ""}' for text, count in run.log.warnings.items()]
        parts.append(folded(f'Warnings of the log ({len(lines)})', bullets(lines)))
    if run.config:
        parts.append(element('h3', 'Settings'))
        facts = table(['', ''], highlights(run.config), 'The main settings', class_='facts')
        parts.append(element('div', facts, class_='card'))
    if run.config_text:
        parts.append(element('div', folded('The whole config', element('pre', run.config_text)), class_='config'))
    return joined(parts)


def environment(run: RunRecord) -> Html:
    """Versions and machine, as mmengine lists them."""
    if not run.log.environment:
        return Html()
    # mmengine calls the number of processes so, with or without a GPU.
    rows = [('processes' if name == 'GPU number' else name, value) for name, value in run.log.environment.items()]
    return element('div', table(['', ''], rows, 'Environment of the run', class_='facts'), class_='card')


def again(run: RunRecord) -> Html:
    """The command that trains it again."""
    command = run.command()
    if not command:
        return Html()
    words = 'In the folder of mstkit; the config is the complete one that the run saved, data paths included.'
    return joined([element('pre', command), element('p', words, class_='note')])


def lead(run: RunRecord) -> Html:
    """State and progress, in one line."""
    return element('p', badge(run.state), ' ', progress(run))


def place_of(*words: str) -> str:
    """The anchor of a section."""
    return slug(' '.join(words))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _plain(value: object) -> str:
    return f'{value:g}' if isinstance(value, float) else str(value)


def _percent(value: float | None) -> str:
    return NOTHING if value is None else f'{value:.2f}'
