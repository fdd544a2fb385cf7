"""The Markdown that tools/ablate.py and tools/transfer.py write, as HTML."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from mstkit.report.markup import Html, bullets, element, joined, table

_PICTURE = re.compile(r'!\[(?P<words>[^\]]*)\]\((?P<file>[^)]+)\)')
_CODE = re.compile(r'`([^`]+)`')
_CELLS = re.compile(r'(?<!\\)\|')


def to_html(text: str, picture: Callable[[str, str], Html]) -> Html:
    """Converts a page; the first heading is left out, for the section around it has one.

    Args:
        text: paragraphs with empty lines between them.
        picture: gets the words for a picture and its file name.
    """
    blocks = [block.strip('\n') for block in re.split(r'\n\s*\n', text) if block.strip()]
    return joined(_block(block.split('\n'), picture) for block in blocks if not block.startswith('# '))


def _block(lines: Sequence[str], picture: Callable[[str, str], Html]) -> Html:
    shown = _PICTURE.fullmatch(lines[0].strip())
    if shown:
        return picture(shown['words'], shown['file'])
    if len(lines) > 1 and lines[0].startswith('|') and set(lines[1]) <= set('|-: '):
        headings, *rows = (_cells(line) for line in (lines[0], *lines[2:]))
        body = [[_words(cell) for cell in (*row, *[''] * len(headings))[: len(headings)]] for row in rows]
        return table(headings, body, f'Table by {headings[0]}')
    if all(line.startswith('- ') for line in lines):
        return bullets(_words(line[2:]) for line in lines)
    return element('p', _words(' '.join(lines)))


def _cells(line: str) -> list[str]:
    return [cell.strip().replace('\\|', '|') for cell in _CELLS.split(line.strip().strip('|'))]


def _words(text: str) -> list[object]:
    """Text with what stands in backticks as code."""
    return [element('code', part) if index % 2 else part for index, part in enumerate(_CODE.split(text))]
