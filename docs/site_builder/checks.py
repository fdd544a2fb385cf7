"""What can be wrong with the built site: links that lead nowhere, pictures without a text, anything that is fetched."""

from __future__ import annotations

import functools
import os
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_FETCHING = {
    ('img', 'src'),
    ('script', 'src'),
    ('link', 'href'),
    ('iframe', 'src'),
    ('source', 'src'),
    ('video', 'src'),
}
_PICTURE = re.compile(r'\.(png|jpe?g|svg|gif|webp)$')


@dataclass
class Contents(HTMLParser):
    """What a page has: anchors, links and pictures.

    Attributes:
        anchors: the places in it that a link may name.
        links: tag, attribute and address of each.
        pictures: address and text (``alt``) of each; None without one.
    """

    text: str
    anchors: set[str] = field(default_factory=set)
    links: list[tuple[str, str, str]] = field(default_factory=list)
    pictures: list[tuple[str, str | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.text)
        self.text = ''

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Called for every tag that opens."""
        values = {name: value or '' for name, value in attrs}
        self.anchors |= {values[name] for name in ('id', 'name') if values.get(name)}
        self.links += [(tag, name, values[name]) for name in ('href', 'src') if name in values]
        if tag == 'img':
            self.pictures.append((values.get('src', ''), values.get('alt')))


def check(html: Path) -> tuple[list[str], list[str]]:
    """Checks every page of a folder.

    Args:
        html: the site.

    Returns:
        What is wrong, a sentence each; and the addresses outside of the site that pages link, which nobody has visited.
    """

    @functools.cache
    def contents(file: Path) -> Contents:
        return Contents(file.read_text(encoding='utf-8'))

    problems: list[str] = []
    external: set[str] = set()
    for file in sorted(html.rglob('*.html')):
        name = file.relative_to(html)
        for source, alt in contents(file).pictures:
            if not (alt or '').strip() or _PICTURE.search(alt or ''):
                problems.append(f'{name}: the picture {source} has no text')
        for tag, attribute, address in contents(file).links:
            parts = urlsplit(address)
            if parts.scheme in ('data', 'mailto'):
                continue
            if parts.scheme or parts.netloc:
                if (tag, attribute) in _FETCHING:
                    problems.append(f'{name}: {address} would be fetched')
                elif not is_an_address(address):
                    problems.append(f'{name}: {address} is not an address')
                external.add(address)
                continue
            target = Path(os.path.normpath(file.parent / unquote(parts.path))) if parts.path else file
            if target.is_dir():
                target /= 'index.html'
            if not target.is_file():
                problems.append(f'{name}: {address} leads nowhere')
            elif target.suffix == '.html' and parts.fragment:
                place = unquote(parts.fragment)
                if place not in contents(target).anchors:
                    problems.append(f'{name}: {address} leads to a page that has no such place')
    for sheet in sorted(html.rglob('*.css')):
        if re.search(r'@import|url\(\s*["\']?(https?:)?//', sheet.read_text(encoding='utf-8')):
            problems.append(f'{sheet.relative_to(html)} would fetch something')
    return problems, sorted(external)


def is_an_address(address: str) -> bool:
    """Whether this could be the address of a page somewhere: https, a host with a domain, nothing odd in it."""
    parts = urlsplit(address)
    host = parts.hostname or ''
    named = re.fullmatch(r'([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}', host) is not None
    return parts.scheme in ('http', 'https') and named and not re.search(r'[\s<>"{}|\\^`]', address)
