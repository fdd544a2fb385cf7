"""Finds the commands by their files, and runs the one that the command line names."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mstkit.errors import UsageError, exit_cleanly, nearest
from mstkit.version import __version__

SUFFIX = '_command'
GROUPS = {  # what a command's GROUP may be, and its heading
    'train': 'Train',
    'measure': 'Measure a trained network',
    'look': 'See what happened',
    'files': 'Weights and data',
    'help': 'Configs and installation',
}


@dataclass(frozen=True)
class Command:
    """A command.

    Attributes:
        name: on the command line, such as ``make-shards``.
        group: a key of :data:`GROUPS`.
        sentence: what it does, without a period.
        module: its full name.
    """

    name: str
    group: str
    sentence: str
    module: str


def read_command(path: Path) -> Command:
    """Reads what a command says about itself, without importing it."""
    tree = ast.parse(path.read_text(encoding='utf-8'))
    (group,) = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == 'GROUP'
    ]
    sentence = (ast.get_docstring(tree) or '').splitlines()[0].partition(': ``')[0].rstrip('.')
    name = path.stem.removesuffix(SUFFIX).replace('_', '-')
    return Command(name, group, sentence, f'{__package__}.{path.stem}')


def commands() -> dict[str, Command]:
    """All commands by their names, in the order of their groups, then of their names."""
    found = [read_command(path) for path in Path(__file__).parent.glob(f'*{SUFFIX}.py')]
    order = list(GROUPS)
    return {one.name: one for one in sorted(found, key=lambda one: (order.index(one.group), one.name))}


def overview() -> str:
    """The text of ``mstkit --help``."""
    known = commands()
    width = max(map(len, known)) + 2
    lines = ['usage: mstkit COMMAND [ARGUMENTS]', '       mstkit COMMAND --help']
    for group, heading in GROUPS.items():
        lines += ['', f'{heading}:']
        lines += [f'  {one.name:{width}}{one.sentence}' for one in known.values() if one.group == group]
    return '\n'.join(lines)


def run(words: Sequence[str]) -> None:
    """Runs a command as its own program would run.

    Args:
        words: the command and its arguments.

    Raises:
        UsageError: no such command.
    """
    if not words or words[0] in ('-h', '--help', 'help'):
        print(overview())
        return
    if words[0] == '--version':
        print(f'mstkit {__version__}')
        return
    name, known = words[0], commands()
    if name not in known:
        what = 'option' if name.startswith('-') else 'command'
        raise UsageError(f'mstkit has no {what} {name!r}.{nearest(name, known, 1)} "mstkit --help" lists the commands.')
    sys.argv = [f'mstkit {name}', *words[1:]]  # what argparse calls the program
    importlib.import_module(known[name].module).main()


@exit_cleanly
def main() -> None:
    """The console script."""
    run(sys.argv[1:])
