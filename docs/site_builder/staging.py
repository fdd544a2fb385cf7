"""The folder of sources that Sphinx reads: the pages of the repository with the site's links, and what is generated."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from . import config_pages
from .links import page_of, rewrite
from .navigation import documents, groups, toctree

LANGUAGES = {'.py': 'python', '.sh': 'bash', '.toml': 'toml', '.yml': 'yaml'}


def stage(root: Path, source: Path) -> None:
    """Writes the sources of the site, but for the reference.

    Args:
        root: of the repository.
        source: a folder, emptied first.

    Raises:
        FileNotFoundError: a page links to a file that is not there.
    """
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    linked: set[PurePosixPath] = set()

    def read(file: PurePosixPath) -> str:
        return rewrite((root / file).read_text(encoding='utf-8'), file, root, linked.add)

    pages = [PurePosixPath(name) for name in ('README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'benchmarks/README.md')]
    pages += [PurePosixPath(path.relative_to(root).as_posix()) for path in sorted((root / 'docs/en').rglob('*.md'))]
    for file in pages:
        _write(source / page_of(file), read(file).replace('# mstkit\n', '# Overview\n', file.name == 'README.md'))
    for kind in ('*.png', '*.ipynb'):
        for path in sorted((root / 'docs/en').rglob(kind)):
            copy = source / path.relative_to(root / 'docs/en')
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    _stage_configs(root, source, read)
    for file in sorted(linked):
        if not (source / page_of(file)).exists():
            _write(source / page_of(file), _source_page(root, file))


def finish(source: Path) -> None:
    """Puts the navigation at the end of the first page, when all other pages are there."""
    for path in sorted(source.glob('*/index.md')):  # notebooks, in the order in which their first page has them
        text = path.read_text(encoding='utf-8')
        if books := [f'{path.parent.name}/{name}' for name in re.findall(r'\]\(([\w-]+)\.ipynb\)', text)]:
            path.write_text(f'{text}\n{toctree(books)}', encoding='utf-8')
    index = source / 'index.md'
    trees = [toctree(members, caption) for caption, members in groups(documents(source)).items()]
    index.write_text('\n'.join([index.read_text(encoding='utf-8'), *trees]), encoding='utf-8')


def _stage_configs(root: Path, source: Path, read: Callable[[PurePosixPath], str]) -> None:
    configs = config_pages.read_configs(root / 'configs')
    pages = {}
    for name in sorted({config.file.parts[0] for config in configs}):
        readme = PurePosixPath('configs', name, 'README.md')
        own = [config for config in configs if config.file.parts[0] == name]
        pages[name] = config_pages.folder_page(name, read(readme) if (root / readme).exists() else None, own)
        _write(source / 'configs' / name / 'index.md', pages[name])
    _write(source / 'configs/index.md', config_pages.index_page(pages, configs))
    for config in configs:
        heirs = [other for other in configs if config.file in other.bases]
        _write(source / 'configs' / config.file.with_suffix('.md'), config_pages.page(config, heirs))


def _source_page(root: Path, file: PurePosixPath) -> str:
    text = (root / file).read_text(encoding='utf-8').rstrip()
    language = LANGUAGES.get(file.suffix, 'text')
    return f'---\norphan: true\n---\n# {file}\n\n````{language}\n{text}\n````\n'


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding='utf-8')
