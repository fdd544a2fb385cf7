"""The Markdown that tools/ablate.py and tools/transfer.py write, as blocks for ``templates/markdown.html.j2``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

_IMAGE = re.compile(r'!\[(?P<words>[^\]]*)\]\((?P<file>[^)]+)\)')
_CELLS = re.compile(r'(?<!\\)\|')


def blocks(text: str) -> list[dict[str, Any]]:
    """Splits a page into blocks; its title is left out, because the section around it has one.

    Args:
        text: paragraphs with empty lines between them.
    """
    found = [block.strip('\n') for block in re.split(r'\n\s*\n', text) if block.strip()]
    return [_block(block.split('\n')) for block in found if not block.startswith('# ')]


def _block(lines: Sequence[str]) -> dict[str, Any]:
    image = _IMAGE.fullmatch(lines[0].strip())
    if image:
        return dict(kind='image', **image.groupdict())
    if len(lines) > 1 and lines[0].startswith('|') and set(lines[1]) <= set('|-: '):
        headings, *rows = (_cells(line) for line in (lines[0], *lines[2:]))
        return dict(
            kind='table', headings=headings, rows=[[*row, *[''] * len(headings)][: len(headings)] for row in rows]
        )
    if all(line.startswith('- ') for line in lines):
        return dict(kind='list', items=[line[2:] for line in lines])
    return dict(kind='paragraph', text=' '.join(lines))


def _cells(line: str) -> list[str]:
    return [cell.strip().replace('\\|', '|') for cell in _CELLS.split(line.strip().strip('|'))]
