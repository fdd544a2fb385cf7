"""Renders the page's Jinja2 templates, with style and script, from the folder ``templates``.

Everything that a template prints is escaped, except the output of macros and of :func:`code_spans`.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from mstkit.report import number_words

_CODE = re.compile(r'`([^`]+)`')


@functools.cache
def environment() -> Environment:
    """Jinja's environment; an undefined name in a template is an error."""
    made = Environment(
        loader=PackageLoader('mstkit.report'),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        number=number_words.number,
        duration=number_words.duration,
        several=number_words.several,
        sentence=number_words.sentence,
    )
    made.filters.update(digest=digest, code_spans=code_spans)
    made.globals.update(style=asset('style.css'), script=asset('script.js'))
    return made


def render(template: str, **facts: Any) -> str:
    """Renders a template.

    Args:
        template: its name in the folder ``templates``.
        facts: variables of the template.
    """
    return environment().get_template(template).render(facts)


@functools.cache
def asset(name: str) -> Markup:
    """A style sheet or script of the folder ``templates``, to be inserted without escaping."""
    return Markup((Path(__file__).parent / 'templates' / name).read_text(encoding='utf-8'))


def digest(text: str) -> str:
    """The hash by which a content security policy names a style or a script."""
    return f'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'


def code_spans(text: str) -> Markup:
    """Escaped text in which backticks become ``<code>``."""
    parts = _CODE.split(text)
    return Markup().join(
        Markup('<code>{}</code>').format(p) if index % 2 else escape(p) for index, p in enumerate(parts)
    )
