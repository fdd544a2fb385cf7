"""Programs of tools/ and benchmarks/ in the process of a test: as modules, or run with the words of a command line.

A tool holds nothing itself: it runs a command of mstkit/commands, whose module stands for it here.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import re
import runpy
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest
from mmengine.logging import MessageHub, MMLogger
from mmengine.visualization import Visualizer

ROOT = Path(__file__).resolve().parents[1]
CHAOS = 'tools/dev/chaos.py'  # the one tool that is no command of the package: it needs the tests


def load_program(path: str) -> ModuleType:
    """The module of a program, such as ``tools/evaluation/knn.py``; its ``main`` does not run."""
    file = ROOT / path
    if path == CHAOS:
        return importlib.import_module('tests.chaos.command')
    if path.startswith('tools/'):
        return importlib.import_module(command_of(path))
    spec = importlib.util.spec_from_file_location(f'{file.parent.name}_{file.stem}_program', file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(file.parent)  # where a program finds its neighbors
        sys.modules[spec.name] = module  # where a dataclass of it looks
        spec.loader.exec_module(module)
    return module


def command_of(path: str) -> str:
    """The full name of the module that a tool runs."""
    (name,) = re.findall(r'^from (mstkit\.commands\.\w+_command) import main', (ROOT / path).read_text(), re.MULTILINE)
    return name


class Finished(NamedTuple):
    """What a program ended with and what it said."""

    returncode: int
    stdout: str
    stderr: str


def forget_runs_of_this_second() -> None:
    """Lets go of the loggers, hubs and visualizers of runs that began in this second in this process.

    mmengine finds them by the name of the config and the second, so that the next run would write into their folder.
    """
    now = time.strftime('_%Y%m%d_%H%M%S')
    kinds = [MMLogger, MessageHub, Visualizer]
    for kind in kinds:
        kinds += kind.__subclasses__()
        for name in [name for name in kind._instance_dict if name.endswith(now)]:
            del kind._instance_dict[name]


def run_program(path: str, *words: object) -> Finished:
    """Runs a program as ``python PATH WORDS`` does in the repository, without a process of its own.

    A new process imports everything first, which takes longer than most programs then run. What is about processes
    (signals, launchers, what is imported when) needs one all the same. An exception that the program does not handle
    is the test's.
    """
    stdout, stderr = io.StringIO(), io.StringIO()
    code: object = 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(stdout), redirect_stderr(stderr):
        patch.setattr(sys, 'argv', [path, *map(str, words)])
        patch.syspath_prepend((ROOT / path).parent)  # as Python does
        patch.chdir(ROOT)
        # A Runner asks compilers and drivers for their versions, which takes seconds each time.
        patch.setattr('mmengine.runner.runner.collect_env', dict)
        forget_runs_of_this_second()
        try:
            runpy.run_path(str(ROOT / path), run_name='__main__')
        except SystemExit as stop:
            code = stop.code
    if isinstance(code, str):  # as Python does with it
        print(code, file=stderr)
        code = 1
    assert code is None or isinstance(code, int)
    return Finished(code or 0, stdout.getvalue(), stderr.getvalue())


def run_on_rank(rank: int, path: str, *words: object) -> Finished:
    """:func:`run_program` for ``run_two``; a rank does not wait for the launcher to end it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('mstkit.engine.parallel.distributed._PATIENCE', 0)
        return run_program(path, *words, '--launcher', 'pytorch')
