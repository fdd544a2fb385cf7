"""A Sphinx extension: names in docstrings and in the text of pages become links where they mean one thing."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import PurePosixPath
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.domains.python import PyObject
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docfields import TypedField

from . import names
from .links import page_of
from .sidebar import replace_toctree


def short_names(env: BuildEnvironment) -> dict[str, set[str]]:
    """What ends in a name, or in two or three: RandomMasker, RandomMasker.hide, random_masker.RandomMasker."""
    if not hasattr(env, 'mstkit_names'):  # kept beside Sphinx's own tables of this build
        found: dict[str, set[str]] = defaultdict(set)
        for full in env.domains.python_domain.objects:
            parts = full.split('.')
            for count in range(1, min(len(parts), 4)):
                found['.'.join(parts[-count:])].add(full)
        env.mstkit_names = found
    return env.mstkit_names


def only(env: BuildEnvironment, name: str) -> str | None:
    """The full name of the one object, or the one class, that is called so."""
    found = short_names(env).get(name, set())
    if len(found) > 1:
        found = {full for full in found if env.domains.python_domain.objects[full].objtype == 'class'}
    return next(iter(found)) if len(found) == 1 else None


class NameResolver(SphinxPostTransform):
    """Replaces names in references to Python objects by full ones, before Sphinx looks for them.

    A name means what it means in the module where it is written, else the one object that ends in it.
    What belongs to another library, or is private, stays text: it exists, but has no page here.
    """

    default_priority = 5  # Sphinx's own has 10

    def run(self, **settings: Any) -> None:
        """Called for every page."""
        objects = self.env.domains.python_domain.objects
        for node in list(self.document.findall(pending_xref)):
            target = node['reftarget'].lstrip('.')
            if node.get('refdomain') != 'py':
                continue
            if target in objects:
                node['reftype'] = 'obj'  # an alias of a type is no class for Sphinx 8
                continue
            module, cls = node.get('py:module'), node.get('py:class')
            full = names.canonical(f'{module}.{cls}.{target}') if cls else None
            full = full or names.meaning(target, module)
            if full not in objects:
                full = full if full and not full.startswith('mstkit') else self._only(target) or full
            owner = (full or '').rpartition('.')[0]
            if full in objects:
                node['reftarget'], node['reftype'] = full, 'obj'
            elif owner in objects and objects[owner].objtype == 'class':  # its docstring describes the attribute
                node['reftarget'], node['reftype'] = owner, 'class'
            elif self._stays_text(target, full, module, cls):
                node.replace_self(node.children[0].deepcopy())

    def _only(self, target: str) -> str | None:
        """The one object that ends in the name, or an attribute of the one class that the name begins with."""
        owner, _, last = target.rpartition('.')
        cls = only(self.env, owner) if owner else None
        return only(self.env, target) or (f'{cls}.{last}' if cls else None)

    @staticmethod
    def _stays_text(target: str, full: str | None, module: str | None, cls: str | None) -> bool:
        if full is not None and (not full.startswith('mstkit') or '._' in full):
            return True
        return names.is_of_another_library(target) or bool(module and cls and names.is_a_field(target, module, cls))


class CodeLinks(SphinxPostTransform):
    """Makes links of inline code that is the name of a class, a method, a module, a config or a page of ours."""

    default_priority = 900

    def run(self, **settings: Any) -> None:
        """Called for every page."""
        if self.env.docname.startswith('source/'):
            return
        for node in list(self.document.findall(nodes.literal)):
            if _inside(node, (nodes.reference, nodes.title)):
                continue
            place = self._place(node.astext())
            if place is not None:
                page, anchor = place
                address = self.app.builder.get_relative_uri(self.env.docname, page) + anchor
                link = nodes.reference('', '', node.deepcopy(), internal=True, refuri=address, classes=['code-link'])
                node.replace_self(link)

    def _place(self, text: str) -> tuple[str, str] | None:
        """The page and the anchor of what is called so; None for anything else, and for what is on this page."""
        domain = self.env.domains.python_domain
        page = anchor = None
        if re.fullmatch(r'[A-Z]\w+(\.\w+)?|mstkit(\.\w+)+', text):
            full = text if text in domain.objects else only(self.env, text)
            if full is not None and domain.objects[full].objtype != 'data':  # DIR is what a reader replaces
                page, anchor = domain.objects[full].docname, f'#{domain.objects[full].node_id}'
        elif re.fullmatch(r'mstkit/[\w/]+\.py', text):
            name = text.removesuffix('.py').removesuffix('/__init__').replace('/', '.')
            if name in domain.modules:
                page, anchor = domain.modules[name].docname, f'#{domain.modules[name].node_id}'
        elif re.fullmatch(r'(configs|docs/en)/[\w./-]+\.(py|md)', text):
            page, anchor = str(page_of(PurePosixPath(text)).with_suffix('')), ''
        if page is None or anchor is None or page not in self.env.found_docs or page == self.env.docname:
            return None
        return page, anchor


def _inside(node: nodes.Node, kinds: tuple[type[nodes.Node], ...]) -> bool:
    parent = node.parent
    while parent is not None:
        if isinstance(parent, kinds):
            return True
        parent = parent.parent
    return False


def skip_unsaid(app: Sphinx, what: str, name: str, obj: object, skip: bool, options: object) -> bool | None:
    """Leaves out what Python writes of the fields of a NamedTuple itself; the class's docstring describes them."""
    return True if (getattr(obj, '__doc__', None) or '').startswith('Alias for field number') else None


def shorten_defaults(
    app: Sphinx, what: str, name: str, obj: object, options: object, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Writes ``...`` where a data class makes a new value each time, for what Python writes is not its own syntax."""
    return (signature and signature.replace('<factory>', '...'), returned)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_post_transform(NameResolver)
    app.add_post_transform(CodeLinks)
    app.connect('autodoc-process-signature', shorten_defaults)
    app.connect('autodoc-skip-member', skip_unsaid)
    app.connect('html-page-context', replace_toctree, priority=400)  # the theme's own comes at 500
    for kind in PyObject.doc_field_types:
        if isinstance(kind, TypedField) and kind.name == 'variable':
            kind.label = 'Attributes'
    return {'parallel_read_safe': True, 'parallel_write_safe': True}
