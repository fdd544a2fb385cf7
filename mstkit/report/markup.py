"""HTML and SVG as strings in which everything that is not markup has been escaped."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Sequence

VOID = frozenset(('br', 'col', 'hr', 'img', 'input', 'link', 'meta'))
NOTHING = '–'


class Html(str):
    """Finished markup. Any other string is text."""

    __slots__ = ()


def element(tag: str, *content: object, **attributes: object) -> Html:
    """Writes an element.

    Args:
        tag: its name.
        content: :class:`Html` as it is, iterables one after the other, everything else escaped; None and False vanish.
        attributes: ``class_`` for class, ``aria_label`` for aria-label; None and False are left out, True stands alone.
    """
    words = [tag]
    for key, value in attributes.items():
        name = key.rstrip('_').replace('_', '-')
        if value is True:
            words.append(name)
        elif value is not None and value is not False:
            words.append(f'{name}="{html.escape(str(value))}"')
    opened = f'<{" ".join(words)}>'
    return Html(opened if tag in VOID else f'{opened}{joined(content)}</{tag}>')


def joined(content: object) -> Html:
    """Content as :func:`element` takes it, without an element around it."""
    if content is None or content is False:
        return Html()
    if isinstance(content, Html):
        return content
    if isinstance(content, Iterable) and not isinstance(content, str):
        return Html(''.join(joined(part) for part in content))
    return Html(html.escape(str(content)))


def table(
    headings: Sequence[object],
    rows: Iterable[Sequence[object]],
    caption: str,
    stacked: bool = True,
    class_: str | None = None,
) -> Html:
    """A table whose first column names its rows.

    Args:
        headings: of the columns.
        rows: as many cells each.
        caption: what is in it; only screen readers get it, the headings around it say it to the eye.
        stacked: on a narrow screen each row becomes a block in which every value carries its heading; otherwise the
            table scrolls within itself.
        class_: further classes.
    """
    body = []
    for first, *others in rows:
        cells = [element('td', cell, data_label=heading) for heading, cell in zip(headings[1:], others, strict=True)]
        body.append(element('tr', element('th', first, scope='row'), cells))
    head = element('tr', (element('th', heading, scope='col') for heading in headings))
    whole = element(
        'table',
        element('caption', caption, class_='unseen'),
        element('thead', head),
        element('tbody', body),
        class_=' '.join(filter(None, ('stacked' if stacked else None, class_))) or None,
    )
    if stacked:
        return whole
    return element('div', whole, class_='scrolls', tabindex=0, role='region', aria_label=caption)


def folded(summary: object, *content: object, opened: bool = False) -> Html:
    """What opens at a click."""
    return element('details', element('summary', summary), content, open=opened)


def bullets(items: Iterable[object], class_: str | None = None) -> Html:
    """A list."""
    return element('ul', (element('li', item) for item in items), class_=class_)


def slug(text: str) -> str:
    """A name for an anchor."""
    return re.sub(r'[^a-z0-9]+', '-', text.lower()).strip('-') or 'x'


def number(value: float | None, digits: int = 4) -> str:
    """A number with so many significant digits, as short as it gets; a dash for None."""
    if value is None:
        return NOTHING
    if not math.isfinite(value):
        return 'not a number' if math.isnan(value) else 'infinite'
    text = f'{value:.{digits}g}'
    if 'e' in text:
        mantissa, exponent = text.split('e')
        return f'{int(float(value))}' if 0 < int(exponent) < 7 else f'{mantissa}e{int(exponent)}'
    return text


def duration(seconds: float) -> str:
    """Seconds in words."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f'{seconds:.0f} s'
    if minutes < 90:
        return f'{minutes} min'
    hours = round(seconds / 3600, 1)
    return f'{hours:g} h' if hours < 48 else f'{seconds / 86400:.1f} days'


def several(items: Sequence[str]) -> str:
    """Words as a person lists them."""
    return items[0] if len(items) == 1 else f'{", ".join(items[:-1])} and {items[-1]}' if items else ''
