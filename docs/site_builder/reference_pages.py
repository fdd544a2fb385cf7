"""The pages of the reference: one for each package, with its registered components first, made of the docstrings."""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import io
import pkgutil
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from mmengine.registry import Registry, root

# Titles of packages whose name says too little; the others are called what they are.
TITLES = {
    'mstkit': 'The package itself',
    'mstkit.models': 'Pre-training, steps and teachers',
    'mstkit.models.algorithms': 'Methods',
    'mstkit.models.data_preprocessors': 'Data preprocessors',
    'mstkit.engine.optim': 'Optimizers and schedules',
    'mstkit.engine.config': 'Reading configs',
    'mstkit.engine.parallel': 'Processes',
    'mstkit.engine.runner': 'Runner and loops',
    'mstkit.interop': 'Checkpoints of other libraries',
    'mstkit.networks': 'Networks of any origin',
    'mstkit.datasets': 'Data sets and transforms',
    'mstkit.datasets.shards': 'Tar shards',
    'mstkit.downstream': 'Detection, segmentation, keypoints',
    'mstkit.scenes': 'Built-in images',
    'mstkit.utils': 'Small helpers',
}
MOST = 100  # characters of a value that are shown
KINDS = (
    'algorithms',
    'backbones',
    'maskers',
    'guides',
    'objectives',
    'targets',
    'tokenizers',
    'decoders',
    'heads',
    'necks',
)


@dataclass(frozen=True)
class Data:
    """A constant, an alias or a type variable of a module: its name, its value as written, the comment above it."""

    name: str
    value: str
    comment: str


@dataclass
class Page:
    """What is public in a package, by module."""

    package: ModuleType
    components: dict[str, type] = field(default_factory=dict)
    others: dict[str, list[str]] = field(default_factory=dict)
    data: dict[str, list[Data]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the file, without ending."""
        return self.package.__name__.removeprefix('mstkit.')

    @property
    def title(self) -> str:
        """The heading."""
        name = self.package.__name__
        return TITLES.get(name) or name.rpartition('.')[2].replace('_', ' ').capitalize()


def write_reference(folder: Path) -> None:
    """Writes the pages into a folder, which is made."""
    folder.mkdir(parents=True)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):  # notices of mmdet and mmseg
        warnings.simplefilter('ignore')
        packages = list(_packages())
    registered = _registered()
    pages = [_page(package, registered) for package in packages]
    pages = [page for page in pages if page.components or page.others or page.data]
    for page in pages:
        (folder / f'{page.name}.rst').write_text(_text(page, registered), encoding='utf-8')
    (folder / 'index.rst').write_text(_index(pages), encoding='utf-8')


def _packages() -> Iterator[ModuleType]:
    """mstkit and all packages in it; everything is imported on the way."""
    importlib.import_module('mstkit.registry')  # first: it imports torch and mmpretrain
    package = importlib.import_module('mstkit')
    yield package
    for found in pkgutil.walk_packages(package.__path__, 'mstkit.'):
        module = importlib.import_module(found.name)
        if found.ispkg:
            yield module


def _registered() -> dict[type, list[tuple[str, str]]]:
    """Classes of mstkit with their registries and the names in them."""
    found: dict[type, list[tuple[str, str]]] = {}
    seen: set[int] = set()
    registries = [value for value in vars(root).values() if isinstance(value, Registry)]
    while registries:
        registry = registries.pop()
        if id(registry) in seen:
            continue
        seen.add(id(registry))
        registries += registry.children.values()
        for name, cls in registry.module_dict.items():
            if isinstance(cls, type) and cls.__module__.startswith('mstkit.'):
                found.setdefault(cls, []).append((registry.name, name))
    return found


def _page(package: ModuleType, registered: dict[type, list[tuple[str, str]]]) -> Page:
    page = Page(package)
    modules = [package]
    for found in pkgutil.iter_modules(package.__path__, f'{package.__name__}.'):
        if not found.ispkg and not found.name.rpartition('.')[2].startswith('_'):
            modules.append(importlib.import_module(found.name))
    for module in modules:
        if data := _data(module):
            page.data[module.__name__] = data
        for name, value in vars(module).items():
            own = inspect.isclass(value) or inspect.isfunction(value)
            if name.startswith('_') or not own or value.__module__ != module.__name__ or value.__name__ != name:
                continue
            if value in registered:
                page.components[f'{module.__name__}.{name}'] = value
            elif value.__doc__:
                page.others.setdefault(module.__name__, []).append(name)
    page.components = dict(sorted(page.components.items(), key=lambda pair: pair[1].__name__.lower()))
    return page


def _data(module: ModuleType) -> list[Data]:
    """What a module assigns to public names."""
    source = inspect.getsource(module)
    lines = source.splitlines()
    found = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            named, value = [node.targets[0].id], node.value
        elif isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Tuple):
            named, value = [ast.unparse(one) for one in node.targets[0].elts], node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            named, value = [node.target.id], node.value
        else:
            continue
        start = end = node.lineno - 1
        while start and lines[start - 1].startswith('#'):
            start -= 1
        comment = ' '.join(line.lstrip('#: ') for line in lines[start:end])
        shown = ' '.join(ast.unparse(value).split())
        comment = '' if 'noqa' in comment else comment
        found += [Data(name, shown, comment) for name in named if not name.startswith('_')]
    return found


def _sentence(value: object) -> str:
    """The first sentence of a docstring, on one line."""
    text = ' '.join((inspect.getdoc(value) or '').partition('\n\n')[0].split())
    return re.split(r'(?<=[^.]\.)(?<!eq\.)(?<!al\.)(?<!e\.g\.)(?<!i\.e\.)\s', text, maxsplit=1)[0]


def _heading(text: str, line: str) -> list[str]:
    return [text, line * len(text), '']


def _text(page: Page, registered: dict[type, list[tuple[str, str]]]) -> str:
    lines = [*_heading(page.title, '='), f'.. py:module:: {page.package.__name__}', '']
    lines += [f'``{page.package.__name__}``', '', inspect.getdoc(page.package) or '', '']
    lines += _overview(page, registered)
    declared = {page.package.__name__}

    def declare(module: str) -> list[str]:
        if module in declared:
            return ['.. py:currentmodule:: ' + module, '']
        declared.add(module)
        return ['.. py:module:: ' + module, '']

    if page.components:
        lines += _heading('Components', '-')
        for name in page.components:
            module, _, short = name.rpartition('.')
            lines += [*declare(module), f'.. autoclass:: {short}', '   :members:', '   :show-inheritance:', '']
    modules = sorted(page.others.keys() | page.data.keys())
    if modules:
        lines += _heading('Base classes and functions' if page.components else 'Modules', '-')
    for module in modules:
        names = page.others.get(module, [])
        lines += _heading(module.rpartition('.')[2], '~')
        lines += declare(module)
        lines += (
            [_prose(inspect.getdoc(importlib.import_module(module)) or ''), '']
            if module != page.package.__name__
            else []
        )
        for short in names:
            kind = 'class' if inspect.isclass(vars(importlib.import_module(module))[short]) else 'function'
            lines += [
                f'.. auto{kind}:: {short}',
                *(['   :members:', '   :show-inheritance:'] if kind == 'class' else []),
                '',
            ]
        for data in page.data.get(module, []):
            value = data.value if len(data.value) < MOST else f'{data.value[: MOST - 2]} …'
            lines += [f'.. py:data:: {data.name}', f'   :value: {value}', '', f'   {_plain(data.comment)}', '']
    return '\n'.join(lines)


def _plain(text: str) -> str:
    """A comment as text of its own: what would be markup is not."""
    return re.sub(r'([*`|_\\])', r'\\\1', text)


def _prose(text: str) -> str:
    """The docstring of a module, which a command prints as its help: a star before a name is no emphasis."""
    return ''.join(
        part if part.startswith('``') else re.sub(r'\*(?=\S)', r'\\*', part) for part in re.split(r'(``.*?``)', text)
    )


def _overview(page: Page, registered: dict[type, list[tuple[str, str]]]) -> list[str]:
    """A table of the components: the name that a config gives, what it is, and the registry where there are several."""
    if not page.components:
        return []
    several = len({registry for cls in page.components.values() for registry, _ in registered[cls]}) > 1
    lines = ['.. list-table::', '   :header-rows: 1', '', '   * - name', '     - is']
    lines += ['     - registry'] * several
    for name, cls in page.components.items():
        for registry, called in registered[cls]:
            lines += [f'   * - :py:class:`{called} <{name}>`', f'     - {_sentence(cls)}']
            lines += [f'     - {registry}'] * several
    return [*lines, '']


def _index(pages: list[Page]) -> str:
    by_kind = [page for kind in KINDS for page in pages if page.package.__name__ == f'mstkit.models.{kind}']
    assert len(by_kind) == len(KINDS)
    others = [page for page in pages if page not in by_kind]
    lines = [
        *_heading('Reference', '='),
        'Everything that a config can name and everything that can be imported, from the docstrings. A component',
        'is chosen by its name: ``model.masker.type=AttMaskHigh``.',
        '',
    ]
    for title, members in (('Components of a method', by_kind), ('All packages', others)):
        lines += [*_heading(title, '-'), '.. list-table::', '   :header-rows: 1', '']
        lines += ['   * - page', '     - has']
        for page in members:
            count = f'{len(page.components)} components: ' if page.components else ''
            names = ', '.join(f':py:class:`~{name}`' for name in page.components)
            lines += [f'   * - :doc:`{page.title} <{page.name}>`', f'     - {count}{names or _sentence(page.package)}']
        lines += ['', '.. toctree::', '   :hidden:', '', *(f'   {page.name}' for page in members), '']
    return '\n'.join(lines)
