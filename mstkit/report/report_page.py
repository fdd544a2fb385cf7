"""The report page: one HTML file without external resources."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from mstkit.report.comparison import comparison_sections
from mstkit.report.page_sections import failure, run_sections, tiles
from mstkit.report.page_templates import render
from mstkit.report.report_sources import Comparison, read_sources
from mstkit.report.run_facts import RunRecord
from mstkit.report.run_verdict import progress
from mstkit.version import __version__


def build_page(folders: Sequence[Path]) -> str:
    """Reads work dirs and builds their page.

    Args:
        folders: of runs, ablations or transfers.

    Returns:
        The text of the HTML file.

    Raises:
        UsageError: a folder without logs.
    """
    comparisons = read_sources(folders)
    first = comparisons[0]
    if len(comparisons) == 1 and len(first.groups) == 1 and len(first.groups[0].runs) == 1 and first.page is None:
        return run_page(first.groups[0].runs[0], first.missing)
    return comparison_page(comparisons)


def run_page(run: RunRecord, unread: Sequence[str] = ()) -> str:
    """The page of one run."""
    return render(
        'run.html.j2',
        title=run.name,
        run=run,
        progress=progress(run),
        tiles=tiles(run),
        not_shown=[*unread, *run.missing],
        failed=failure(run),
        sections=run_sections(run),
        **_written(),
    )


def comparison_page(comparisons: Sequence[Comparison]) -> str:
    """The page of several runs, ablations or tasks of a transfer."""
    several = len(comparisons) > 1
    return render(
        'page.html.j2',
        title=f'{len(comparisons)} comparisons' if several else comparisons[0].title,
        not_shown=[sentence for comparison in comparisons for sentence in comparison.missing],
        sections=[
            section
            for comparison in comparisons
            for section in comparison_sections(comparison, f'{comparison.title}: ' if several else '')
        ],
        **_written(),
    )


def _written() -> dict[str, str]:
    return dict(version=__version__, date=time.strftime('%Y-%m-%d %H:%M'))
