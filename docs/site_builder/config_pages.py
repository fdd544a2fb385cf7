"""A page for each folder of configs and for each config: what it is for, what it inherits, its text."""

from __future__ import annotations

import ast
import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .navigation import toctree

TITLES = {
    '_base_': 'Shared parts',
    'attmask': 'AttMask',
    'demo': 'The demo',
    'dino': 'DINO',
    'downstream': 'Downstream tasks',
    'ibot': 'iBOT',
    'moby': 'MoBY',
    'mst': 'MST',
}
INTRODUCTION = """# All configs

A config is a Python file that `python tools/train.py` reads. Those named `…_folder.py` are made for your own images;
those with a number of epochs, such as `…_100e.py`, follow a paper on ImageNet. [Methods](../methods.md) compares
what they train.

| method | configs | for |
|---|---|---|
"""


@dataclass(frozen=True)
class Config:
    """A config file: where it lies below ``configs/``, its docstring and what it inherits."""

    file: PurePosixPath
    docstring: str
    bases: tuple[PurePosixPath, ...]
    text: str

    @property
    def sentence(self) -> str:
        """The first sentence of the docstring."""
        return re.split(r'(?<=[.:])\s', ' '.join(self.docstring.split()), maxsplit=1)[0]


def read_config(path: Path, folder: Path) -> Config:
    """Reads a config without running it."""
    text = path.read_text(encoding='utf-8')
    tree = ast.parse(text)
    file = PurePosixPath(path.relative_to(folder).as_posix())
    inherited: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == '_base_':
            value = ast.literal_eval(node.value)
            inherited = [value] if isinstance(value, str) else list(value)
    bases = tuple(PurePosixPath(os.path.normpath(file.parent / base)) for base in inherited)
    return Config(file, ast.get_docstring(tree) or '', tuple(base for base in bases if '::' not in str(base)), text)


def read_configs(folder: Path) -> list[Config]:
    """All configs below a folder, by name."""
    return [read_config(path, folder) for path in sorted(folder.rglob('*.py'))]


def page(config: Config, heirs: list[Config]) -> str:
    """The page of one config; it is reached from that of its folder and from the pages that name it."""

    def links(files: list[PurePosixPath]) -> str:
        here = config.file.parent
        return ', '.join(f'[{name.stem}]({os.path.relpath(name.with_suffix(".md"), here)})' for name in files)

    top = os.path.relpath(PurePosixPath(config.file.parts[0], 'index.md'), config.file.parent)
    lines = ['---', 'orphan: true', '---', f'# {config.file.name}', '', f'[All of this folder]({top})', '']
    for paragraph in config.docstring.split('\n'):
        command = re.fullmatch(r'Command: (.*)', paragraph)
        lines += ['', '```bash', command[1], '```', ''] if command else [_escaped(paragraph)]
    if config.bases:
        lines += ['', f'Inherits {links(list(config.bases))}.']
    if heirs:
        lines += ['', f'Inherited by {links([heir.file for heir in heirs])}.']
    return '\n'.join([*lines, '', f'## configs/{config.file}', '', '```python', config.text.rstrip(), '```', ''])


def table(configs: list[Config], folder: PurePosixPath) -> str:
    """The configs of a folder with their first sentences."""
    rows = [
        f'| [{os.path.relpath(config.file, folder)}]({os.path.relpath(config.file.with_suffix(".md"), folder)}) '
        f'| {_escaped(config.sentence)} |'
        for config in configs
    ]
    return '\n'.join(['| config | trains |', '|---|---|', *rows, ''])


def folder_page(name: str, readme: str | None, configs: list[Config]) -> str:
    """The first page of a folder: its README, and those of its configs that the README does not link."""
    folder = PurePosixPath(name)
    if readme is None:
        return f'# {TITLES.get(name, name)}\n\n{table(configs, folder)}'
    missing = [config for config in configs if f']({config.file.relative_to(folder).with_suffix(".md")})' not in readme]
    return readme + (f'\n## Further configs\n\n{table(missing, folder)}' if missing else '')


def index_page(pages: dict[str, str], configs: list[Config]) -> str:
    """The page of all folders, given the page of each."""
    titles = {
        name: next(line[2:] for line in text.splitlines() if line.startswith('# ')) for name, text in pages.items()
    }
    ordered = sorted(titles, key=lambda name: (name in ('downstream', '_base_'), titles[name].lower()))
    rows = []
    for name in ordered:
        own = [config for config in configs if config.file.parts[0] == name]
        kinds = [
            f'{count} {kind}'
            for kind, count in (
                ('for your own folder', sum('_folder' in config.file.name for config in own)),
                ('by the number of epochs', sum(bool(re.search(r'_\d+e', config.file.name)) for config in own)),
            )
            if count
        ]
        rows.append(f'| [{titles[name]}]({name}/index.md) | {len(own)} | {", ".join(kinds) or "—"} |')
    return INTRODUCTION + '\n'.join(rows) + '\n\n' + toctree([f'configs/{name}/index' for name in ordered])


def _escaped(text: str) -> str:
    """Plain text as Markdown: names with stars and underscores stay as they are."""
    return re.sub(r'([*_<>|\\])', r'\\\1', text)
