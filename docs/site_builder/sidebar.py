"""The navigation beside every page, from a table that is made once.

Sphinx would copy the contents of all pages, with every method of the reference in them, for every page again: that is
four fifths of the time of a build.
"""

from __future__ import annotations

import html
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment


def _groups(env: BuildEnvironment) -> list[tuple[str, list[str]]]:
    """The captions of the first page's navigation with their pages."""
    if not hasattr(env, 'mstkit_groups'):  # kept beside Sphinx's own tables of this build
        trees = env.get_doctree(env.config.root_doc).findall(addnodes.toctree)
        env.mstkit_groups = [(tree['caption'], [page for _, page in tree['entries']]) for tree in trees]
    return env.mstkit_groups


def _entries(app: Sphinx, pages: list[str], here: str, level: int) -> tuple[str, bool]:
    """A list of links, and whether the page itself is in it."""
    env, items, found = app.env, [], False
    for page in pages:
        below, inside = '', False
        if env.toctree_includes.get(page):
            below, inside = _entries(app, env.toctree_includes[page], here, level + 1)
        current = page == here
        found = found or current or inside
        address = '#' if current else app.builder.get_relative_uri(here, page)
        classes = ' current' if current or inside else ''
        title = html.escape(env.titles[page].astext())
        items.append(
            f'<li class="toctree-l{level}{classes}"><a class="{"current " if current else ""}reference internal" '
            f'href="{address}">{title}</a>{below}</li>'
        )
    return f'<ul{" class=current" if found else ""}>{"".join(items)}</ul>', found


def replace_toctree(
    app: Sphinx, page: str, template: str, context: dict[str, Any], tree: nodes.document | None
) -> None:
    """Gives the theme a faster ``toctree``; it asks for all of it, by titles alone."""

    def toctree(**settings: Any) -> str:
        parts = []
        for caption, pages in _groups(app.env):
            parts.append(f'<p class="caption" role="heading"><span class="caption-text">{caption}</span></p>')
            parts.append(_entries(app, pages, page, 1)[0])
        return ''.join(parts)

    context['toctree'] = toctree
