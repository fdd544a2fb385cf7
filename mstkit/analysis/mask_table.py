"""Summaries of masks as a table, in Markdown and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping

from mstkit.analysis.mask_statistics import MaskSummary

NOTHING = '–'
# Heading and format of each column: shares in percent, a count with one decimal.
COLUMNS: dict[str, tuple[str, Callable[[float], str]]] = {
    'whole': ('left whole', lambda value: f'{100 * value:.1f}'),
    'hidden_overall': ('hidden, all images', lambda value: f'{100 * value:.1f}'),
    'hidden': ('hidden', lambda value: f'{100 * value:.1f}'),
    'attention_mass': ('attention hidden', lambda value: f'{100 * value:.1f}'),
    'top_attention': ('top 10 % hidden', lambda value: f'{100 * value:.1f}'),
    'cohesion': ('cohesion', lambda value: f'{100 * value:.0f}'),
    'components': ('components', lambda value: f'{value:.1f}'),
    'border': ('border', lambda value: f'{100 * value:.1f}'),
}
THROWN: dict[str, tuple[str, Callable[[float], str]]] = {'thrown': ('thrown', lambda value: f'{100 * value:.1f}')}
EXPLANATION = (
    'Percent, apart from the number of components. *left whole*: images in which nothing is hidden; *hidden, all '
    'images*: share of the patches, those images included. The other columns are means over the images with '
    'hidden patches: *hidden*, share of the patches; *attention hidden*, share of the attention that lies on them (a '
    'random mask hides as much of it as of the patches); *top 10 % hidden*, share of the most attended tenth of the '
    'patches; *cohesion*, size of the connected piece that a hidden patch belongs to, as a share of all hidden patches '
    '(100 is one piece; patches connect by their sides); *components*, how many pieces; *border*, share of the inner '
    'sides of the grid that part a hidden from a visible patch (of a random mask of share r, 2 r (1 - r)). *thrown*, '
    'where a strategy throws patches: their share, of all images; they are neither encoded nor predicted, and beside '
    'hidden patches count as visible.'
)


def markdown_table(rows: Mapping[str, MaskSummary]) -> str:
    """A Markdown table with a row per masking strategy; the column of thrown patches only if there are any."""
    columns = COLUMNS | (THROWN if any(row.thrown for row in rows.values()) else {})
    lines = [f'| {" | ".join(["strategy", *(heading for heading, _ in columns.values())])} |']
    lines.append('| --- |' + ' ---: |' * len(columns))
    for name, row in rows.items():
        values = {field: getattr(row, field) for field in columns}
        cells = [NOTHING if math.isnan(values[f]) else write(values[f]) for f, (_, write) in columns.items()]
        lines.append(f'| {" | ".join([name, *cells])} |')
    return '\n'.join(lines)


def csv_table(rows: Mapping[str, MaskSummary]) -> str:
    """The same table as CSV with full precision, shares from 0 to 1; an empty cell for NaN."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(['strategy', *MaskSummary._fields])
    for name, row in rows.items():
        writer.writerow([name, *('' if math.isnan(value) else value for value in row)])
    return text.getvalue()
