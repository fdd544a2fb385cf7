"""Links of the pages: from a file in the repository to another, hence from a page of the site to another."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

# Fenced blocks and inline code are passed over; what is left of an alternative without group 1 is code.
_LINK = re.compile(r'^```.*?^```$|(`+)(?!`).*?(?<!`)\1(?!`)|\]\(([^)\s]+)\)', re.MULTILINE | re.DOTALL)
_NAMED = {'README.md': 'overview.md', 'CONTRIBUTING.md': 'contributing.md', 'CHANGELOG.md': 'changelog.md'}


def page_of(file: PurePosixPath) -> PurePosixPath:
    """Where the site has a file of the repository: both relative to their root.

    READMEs become the first page of their folder, ``docs/en`` is the root, configs are pages that show them, and any
    other text (a tool, the license) is a page in ``source/``.
    """
    if str(file) in _NAMED:
        return PurePosixPath(_NAMED[str(file)])
    if file.parts[:2] == ('docs', 'en'):
        return PurePosixPath(*file.parts[2:])
    if str(file) == 'benchmarks/README.md':
        return PurePosixPath('benchmarks.md')
    if file.parts[0] == 'configs' and file.suffix == '.py':
        return file.with_suffix('.md')
    if file.parts[0] == 'configs' and file.name == 'README.md':
        return file.with_name('index.md')
    return PurePosixPath('source', f'{file}.md')


def rewrite(text: str, file: PurePosixPath, root: Path, linked: Callable[[PurePosixPath], None]) -> str:
    """The Markdown of a page with the links of the site.

    Args:
        text: the page's.
        file: where the page lies, relative to the root of the repository.
        root: of the repository.
        linked: is told every file that is linked.

    Raises:
        FileNotFoundError: a link leads to nothing.
    """
    here = page_of(file).parent

    def replace(found: re.Match[str]) -> str:
        target = found[2]
        if target is None or target.startswith('#') or re.match(r'[a-z]+:', target):
            return found[0]
        path, hash_, anchor = target.partition('#')
        other = PurePosixPath(os.path.normpath(file.parent / path))
        if (root / other).is_dir():
            other /= 'README.md'
        elif not (root / other).is_file():
            raise FileNotFoundError(f'{file} links to {target}, which is not there')
        linked(other)
        return f']({os.path.relpath(page_of(other), here)}{hash_}{anchor})'

    return _LINK.sub(replace, text)
