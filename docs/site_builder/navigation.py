"""Where each page stands in the navigation of the site."""

from __future__ import annotations

from pathlib import Path

# Pages of docs/en, in the order in which they are read; 'overview', 'configs/index' and so on are made of other files.
GROUPS: dict[str, tuple[str, ...]] = {
    'Start': ('get_started', 'overview', 'tutorials/index'),
    'Pre-train': ('methods', 'masks', 'tokenizers', 'configs/index', 'ablate'),
    'Use the result': ('transfer', 'features', 'convert', 'evaluate', 'analysis', 'report'),
    'Understand': ('how_a_step_goes', 'conventions', 'reliability', 'performance', 'scaling', 'benchmarks'),
    'Results': ('results', 'results_masks', 'results_recipes', 'results_flowers', 'results_transfer'),
    'Extend': ('add_a_masker', 'add_a_target', 'add_an_objective', 'add_a_backbone', 'add_an_evaluation'),
    'Reference': ('reference/index',),
    'Project': ('changelog', 'contributing'),
}
LAST = 'More'


def groups(pages: set[str]) -> dict[str, list[str]]:
    """The groups of the pages that are there; those that no group names come last, in a group of their own."""
    found = {name: [page for page in members if page in pages] for name, members in GROUPS.items()}
    named = {page for members in GROUPS.values() for page in members}
    found[LAST] = sorted(pages - named)
    return {name: members for name, members in found.items() if members}


def toctree(entries: list[str], caption: str | None = None, hidden: bool = True, depth: int = 1) -> str:
    """A list of pages for Sphinx, as a directive in Markdown; names are absolute, without a leading slash."""
    options = [f':caption: {caption}'] if caption else []
    options += [':hidden:'] if hidden else []
    options += [f':maxdepth: {depth}']
    return '\n'.join(['```{toctree}', *options, '', *(f'/{entry}' for entry in entries), '```', ''])


def documents(folder: Path) -> set[str]:
    """The staged pages that the navigation has to list: all at the top, and the first ones of folders."""
    pages = {path.stem for path in folder.glob('*.md')} - {'index'}
    return pages | {f'{path.parent.name}/index' for path in folder.glob('*/index.*')}
