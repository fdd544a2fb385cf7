"""The page's templates, style and script: files of the folder ``templates``, into which Python hands plain facts.

Everything that a template prints is escaped. What is markup already comes from a macro, or from :func:`code_spans`.
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
    """Jinja's environment; a name that a template uses and nobody gave is an error."""
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
    """Fills in a template.

    Args:
        template: its name in the folder ``templates``.
        facts: plain values and objects.
    """
    return environment().get_template(template).render(facts)


@functools.cache
def asset(name: str) -> Markup:
    """A style sheet or script of the folder ``templates``, to be written into the page as it is."""
    return Markup((Path(__file__).parent / 'templates' / name).read_text(encoding='utf-8'))


def digest(text: str) -> str:
    """The hash by which a content security policy names a style or a script."""
    return f'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'


def code_spans(text: str) -> Markup:
    """Text with what stands in backticks as code."""
    parts = _CODE.split(text)
    return Markup().join(
        Markup('<code>{}</code>').format(p) if index % 2 else escape(p) for index, p in enumerate(parts)
    )
