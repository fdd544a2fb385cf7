"""Runs a tool of mmdet, mmseg or mmpretrain after providing mmcv's operators.

``python -m mstkit.toolbox mmdet test CONFIG CHECKPOINT`` runs mmdet's own ``tools/test.py`` as it is. Some of these
tools import ``mmcv.ops`` before they read the config, and with it :mod:`mstkit.downstream`; where mmcv has no compiled
operators they fail when they are started by their path (:mod:`mstkit.downstream.mmcv_operators`).
"""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

import importlib.util
import runpy
import sys
from pathlib import Path

import mstkit.downstream  # noqa: F401  (mmcv's operators, before any tool)
from mstkit.errors import UsageError, exit_cleanly, nearest

PACKAGES = ('mmdet', 'mmseg', 'mmpretrain')
USAGE = (
    f'python -m mstkit.toolbox {{{",".join(PACKAGES)}}} TOOL [ARGUMENT ...], for example mmdet test CONFIG CHECKPOINT'
)


def tools_of(package: str) -> Path:
    """The folder of a package's tools: inside the installed package, or next to it in a source checkout.

    Raises:
        UsageError: no such package, or one without tools.
    """
    if package not in PACKAGES:
        raise UsageError(f'{package!r} is none of {", ".join(PACKAGES)}. Usage: {USAGE}.')
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UsageError(f'{package} is not installed: run "python -m mstkit.doctor", it names the command that helps.')
    home = Path(spec.submodule_search_locations[0])
    for folder in (home / '.mim' / 'tools', home.parent / 'tools'):
        if (folder / 'test.py').is_file():
            return folder
    raise UsageError(f'{package} in {home} came without its tools: install it anew from a package index.')


def find_tool(package: str, name: str) -> Path:
    """The file of a tool.

    Args:
        package: of :data:`PACKAGES`.
        name: relative to the package's tools, ``.py`` or not: ``test``, ``analysis_tools/get_flops``.

    Raises:
        UsageError: no such tool; the message lists the existing ones.
    """
    folder = tools_of(package)
    path = folder / (name if name.endswith('.py') else f'{name}.py')
    if path.is_file() and path.resolve().is_relative_to(folder.resolve()):
        return path
    known = sorted(tool.relative_to(folder).with_suffix('').as_posix() for tool in folder.rglob('*.py'))
    raise UsageError(f'{package} has no tool {name!r}.{nearest(name, known)} It has {", ".join(known)}.')


@exit_cleanly
def main() -> None:
    """Runs the tool that the command line names, as Python would run its file."""
    if sys.argv[1:2] in (['-h'], ['--help']):
        print(f'usage: {USAGE}')
        return
    if len(sys.argv) < 3:
        raise UsageError(f'give a package and a tool of it: {USAGE}.')
    path = find_tool(sys.argv[1], sys.argv[2])
    sys.argv = [str(path), *sys.argv[3:]]
    sys.path[0] = str(path.parent)
    runpy.run_path(str(path), run_name='__main__')


if __name__ == '__main__':
    main()
