"""Reading the documentation: blocks, commands, inline code, and the files that it contains."""

from __future__ import annotations

import argparse
import functools
import importlib
import re
from pathlib import Path
from types import ModuleType

import pytest

from mstkit.commands.command_table import commands as known_commands
from tests.programs import load_program

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *(ROOT / name for name in ('README.md', 'CONTRIBUTING.md')),
    *sorted((ROOT / 'docs' / 'en').rglob('*.md')),
    *sorted((ROOT / 'configs').rglob('README.md')),
]
FOLDER_CONFIG = 'configs/mst/mst_vit-tiny_folder.py'

_BLOCK = re.compile(r'^```(\w*)\n(.*?)^```$', re.MULTILINE | re.DOTALL)
_OURS = re.compile(r'(?:[A-Z_]+=\S+ )*(?:make|mstkit |bash tools/|(?:\S*/)?python3? (?:tools/|-m mstkit))')


def text_of(page: Path) -> str:
    return page.read_text(encoding='utf-8')


def blocks(page: Path, language: str) -> list[str]:
    return [body for found, body in _BLOCK.findall(text_of(page)) if found == language]


def prose(page: Path) -> str:
    """A page without its blocks."""
    return _BLOCK.sub('', text_of(page))


def spans(page: Path) -> list[str]:
    """Inline code."""
    return re.findall(r'`([^`\n]+)`', prose(page))


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the table that begins with a heading cell."""
    table = text_of(ROOT / 'docs' / 'en' / page).split(f'| {heading} |', 1)[1].split('\n\n', 1)[0]
    return [[cell.strip() for cell in line.strip('|').split('|')] for line in table.splitlines()[2:]]


def named_files() -> dict[str, str]:
    """The complete files in the documentation, by the name in their first line."""
    files = {}
    for page in PAGES:
        for body in blocks(page, 'python'):
            name = re.match(r'# (\S+\.py)\n', body)
            if name:
                files[name[1]] = body
    return files


def registered_by_the_pages() -> list[tuple[str, str]]:
    """What the files of the pages register: the registry's name in mstkit.registry, and the component's."""
    found = [
        (registry, name or cls)
        for body in named_files().values()
        for registry, name, cls in re.findall(
            r"^@(\w+)\.register_module\((?:name='(\w+)')?\)\nclass (\w+)", body, re.MULTILINE
        )
    ]
    assert ('EVALUATORS', 'class_means') in found
    return found


def commands() -> list[tuple[str, str]]:
    """Every command in a bash block, with its page; of the results, which also say how data is fetched, only ours."""
    found = []
    for page in PAGES:
        for body in blocks(page, 'bash'):
            lines = [line.strip() for line in body.replace('\\\n', ' ').splitlines()]
            lines = [line for line in lines if line and not line.startswith('#')]
            found += [(page.name, line) for line in lines if not page.name.startswith('results') or _OURS.match(line)]
    return found


def tool(name: str) -> ModuleType:
    """A program of tools/, one that says it is in benchmarks/, or a command that has no program, as a module."""
    if not name.endswith('.py'):
        return importlib.import_module(commands_by_name()[name])
    return load_program(name if name.startswith(('benchmarks/', 'tools/')) else f'tools/{name}')


@functools.cache
def commands_by_name() -> dict[str, str]:
    """The modules of the commands of mstkit."""
    return {name: command.module for name, command in known_commands().items()}


@functools.cache
def tool_of(command: str) -> str:
    """The program of tools/ that is a command of mstkit; the command itself where it has none."""
    module = commands_by_name()[command]
    tools = [path for path in (ROOT / 'tools').rglob('*.py') if f'from {module} import' in text_of(path)]
    return tools[0].relative_to(ROOT / 'tools').as_posix() if tools else command


def parser_of(name: str) -> argparse.ArgumentParser:
    """The argument parser of a tool; nothing of the tool runs."""
    module = tool(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, 'parse_args', lambda self, *words: self)
        return module.parse_args()
