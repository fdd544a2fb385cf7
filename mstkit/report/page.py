"""The page: one HTML file that loads nothing."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Sequence
from pathlib import Path

from mstkit.report import sections
from mstkit.report.compare import comparison_sections
from mstkit.report.curves import charts_of
from mstkit.report.figures import gallery
from mstkit.report.markup import Html, element, joined
from mstkit.report.panel_section import panels
from mstkit.report.run import RunRecord
from mstkit.report.script import SCRIPT
from mstkit.report.sources import Comparison, read_sources
from mstkit.report.style import STYLE
from mstkit.version import __version__

TITLES = {
    'accuracy': 'Accuracy',
    'collapse': 'Collapse',
    'masks': 'Masks',
    'panels': 'Panels',
    'training': 'Training',
    'evaluation': 'Evaluations',
    'configuration': 'Configuration',
    'environment': 'Environment',
    'again': 'Run it again',
}


def build_page(folders: Sequence[Path]) -> str:
    """Reads work dirs and writes their page.

    Args:
        folders: of runs, ablations or transfers.

    Returns:
        The text of the HTML file.

    Raises:
        UsageError: a folder in which nothing was logged.
    """
    comparisons = read_sources(folders)
    first = comparisons[0]
    if len(comparisons) == 1 and len(first.groups) == 1 and len(first.groups[0].runs) == 1 and first.page is None:
        return run_page(first.groups[0].runs[0], first.missing)
    return comparison_page(comparisons)


def run_page(run: RunRecord, unread: Sequence[str] = ()) -> str:
    """The page of one run."""
    charts = charts_of(run)
    content = {
        'accuracy': [
            gallery(charts.get('accuracy', []), 'accuracy', sections.all_neighbours(run)),
        ],
        'collapse': [sections.verdict_card(run), gallery(charts.get('collapse', []), 'collapse')]
        if run.collapse
        else [],
        'panels': [panels([run], 'panels', rows=8)],
        'masks': [gallery(charts.get('masks', []), 'masks', sections.masks(run))],
        'training': [gallery(charts.get('training', []), 'training')],
        'evaluation': [sections.evaluations([('', result) for result in run.evaluations])],
        'configuration': [sections.configuration(run)],
        'environment': [sections.environment(run)],
        'again': [sections.again(run)],
    }
    named = [(TITLES[place], place, joined(parts)) for place, parts in content.items()]
    top = [sections.lead(run), sections.tiles(run), sections.missing([*unread, *run.missing]), sections.failure(run)]
    return document(run.name, top, [one for one in named if one[2]])


def comparison_page(comparisons: Sequence[Comparison]) -> str:
    """The page of several runs, ablations or tasks of a transfer."""
    named: list[tuple[str, str, Html]] = []
    for comparison in comparisons:
        before = f'{comparison.title}: ' if len(comparisons) > 1 else ''
        named += comparison_sections(comparison, before)
    title = comparisons[0].title if len(comparisons) == 1 else f'{len(comparisons)} comparisons'
    unread = [sentence for comparison in comparisons for sentence in comparison.missing]
    return document(title, [sections.missing(unread)], named)


def document(title: str, top: Sequence[object], parts: Sequence[tuple[str, str, Html]]) -> str:
    """The whole file.

    Args:
        title: of the page.
        top: what comes before the first section.
        parts: title, anchor and content of each section.
    """
    # Only this style and this script, named by their hashes, and pictures that are part of the file.
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(STYLE)}'; script-src '{_hash(SCRIPT)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    head = element(
        'head',
        element('meta', charset='utf-8'),
        element('meta', http_equiv='Content-Security-Policy', content=policy),
        element('meta', name='viewport', content='width=device-width, initial-scale=1'),
        element('meta', name='color-scheme', content='light dark'),
        element('meta', name='referrer', content='no-referrer'),
        element('title', f'{title} · mstkit'),
        element('link', rel='icon', href='data:,'),
        element('style', Html(STYLE)),
    )
    links = (element('li', element('a', name, href=f'#{place}')) for name, place, _ in parts)
    written = time.strftime('%Y-%m-%d %H:%M')
    body = element(
        'body',
        element('a', 'To the content', href='#content', class_='skip'),
        element('header', element('h1', title), top, element('nav', element('ul', links), aria_label='Sections')),
        element('main', (sections.section(name, place, content) for name, place, content in parts), id='content'),
        element('footer', element('p', f'Written by mstkit {__version__} on {written}. It loads nothing.')),
        element('script', Html(SCRIPT)),
    )
    return f'<!DOCTYPE html>\n{element("html", head, body, lang="en")}\n'


def _hash(text: str) -> str:
    return f'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'
