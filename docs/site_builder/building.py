"""From the repository to HTML: sources are gathered, the reference is written, Sphinx runs, the result is checked."""

from __future__ import annotations

import shutil
from pathlib import Path

from sphinx.cmd.build import build_main

from .checks import check
from .reference_pages import write_reference
from .staging import finish, stage


def build(root: Path, out: Path) -> list[str]:
    """Builds the site anew.

    Args:
        root: of the repository.
        out: gets ``source/``, what Sphinx reads, ``html/``, the site, and ``external_links.txt``.

    Returns:
        What is wrong with the site; empty if nothing is. Warnings of Sphinx are printed by itself.
    """
    source, html = out / 'source', out / 'html'
    stage(root, source)
    write_reference(source / 'reference')
    finish(source)
    shutil.rmtree(html, ignore_errors=True)
    shutil.rmtree(out / 'doctrees', ignore_errors=True)
    # In one process: a fork of one that has imported torch and used its threads may wait forever.
    words = ['-q', '-W', '--keep-going', '-n', '-c', str(root / 'docs'), '-d', str(out / 'doctrees')]
    if build_main([*words, str(source), str(html)]):
        return ['Sphinx has warnings']
    problems, external = check(html)
    (out / 'external_links.txt').write_text('\n'.join([*external, '']), encoding='utf-8')
    return problems
