"""Where the configs and tools that come with mstkit lie: in the clone, or in the installed package.

A wheel holds them in ``mstkit/.mim``, as packages of OpenMMLab do, where ``mim`` looks for them. This file imports the
standard library only, so that listing the configs does not need torch.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from mstkit.errors import UsageError
from mstkit.utils.home_folder import expanded

PACKAGE = Path(__file__).resolve().parents[1]
HINT = '"mstkit configs" lists those that come with mstkit'


def in_clone() -> bool:
    """Whether the package is imported from a clone, or from an editable installation of one."""
    return (PACKAGE.parent / 'setup.py').is_file() and (PACKAGE.parent / 'configs' / '_base_').is_dir()


def shipped(name: str = '') -> Path:
    """The path of a file or folder that comes with mstkit.

    Args:
        name: relative to the repository, such as ``configs/_base_/ablation_choices.py``.
    """
    return (PACKAGE.parent if in_clone() else PACKAGE / '.mim') / name


def config_names() -> list[str]:
    """The names of all configs that can be run, such as ``mst/mst_vit-tiny_folder``, in order."""
    configs = shipped('configs')
    names = (path.relative_to(configs).with_suffix('') for path in configs.rglob('*.py'))
    return sorted(name.as_posix() for name in names if '_base_' not in name.parts)


def find_config(words: str | Path) -> Path:
    """The file of a config that is given by its path or by its name.

    Args:
        words: a path, or the name of a config that comes with mstkit: ``mst/mst_vit-tiny_folder``, also behind
            ``configs/`` and with ``.py``.

    Returns:
        The path as given if there is such a file, else that of the shipped config; relative to the current folder
        where it lies below.

    Raises:
        UsageError: neither; the message has the nearest names.
    """
    path = expanded(words)
    if path.is_file():
        return path
    name = path.as_posix().removeprefix('configs/').removesuffix('.py')
    if name in config_names():
        return from_here(shipped(f'configs/{name}.py'))
    raise UsageError(f'there is no config file {words}.{_nearest(name)} {HINT}.')


def from_here(path: Path) -> Path:
    """A path relative to the current folder if it is below that, else the path itself."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _nearest(name: str) -> str:
    """Names of configs that resemble one: with the same last part, or else with similar letters."""
    names = config_names()
    same = [known for known in names if known.rpartition('/')[2] == name.rpartition('/')[2]]
    by_end = {known.rpartition('/')[2]: known for known in reversed(names)}
    close = [by_end[end] for end in difflib.get_close_matches(name.rpartition('/')[2], by_end, cutoff=0.5)]
    found = (same or [*dict.fromkeys([*difflib.get_close_matches(name, names, cutoff=0.6), *close])])[:3]
    return f' Did you mean {" or ".join(found)}?' if found else ''
