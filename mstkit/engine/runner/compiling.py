"""``compile`` of the config: torch.compile for the parts of a model that have something to gain by it.

mmengine would compile the whole training step, with the masks, views and reads that change from step to step. Here the
parts are compiled that are the same in every step: the layers of a vision transformer, of student and teacher, and the
projection heads. Names in checkpoints stay as they are, and evaluation runs as it does without.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from mstkit.errors import UsageError
from mstkit.models.interface import CompilablePart
from mstkit.utils.private_attributes import compile_single_layers

# Two sizes of views, with and without gradients, with and without stochastic depth, all tokens or the first.
GRAPHS = 32


def wants_compiling(settings: Any) -> bool:
    """Whether ``compile`` of a config asks for it. Raises UsageError where it is neither a bool nor a dict."""
    if not isinstance(settings, bool | Mapping | None):
        raise UsageError(f'compile is True, False or a dict of arguments for torch.compile, not {settings!r}.')
    return settings is not None and settings is not False


def check_compiling(model: nn.Module, settings: Any) -> None:
    """Refuses a ``compile`` that cannot work, before anything runs.

    Args:
        model: what will be trained.
        settings: ``compile`` of the config.

    Raises:
        UsageError: nothing to compile, or nothing to compile with.
    """
    if not wants_compiling(settings):
        return
    if not any(isinstance(module, CompilablePart) for module in model.modules()):
        raise UsageError(f'compile: {type(model).__name__} has no part that can be compiled; leave compile out.')
    backend = settings.get('backend', 'inductor') if isinstance(settings, Mapping) else 'inductor'
    if backend not in torch.compiler.list_backends(exclude_tags=()):
        known = ', '.join(sorted(torch.compiler.list_backends()))
        raise UsageError(f'compile.backend is {backend!r}; torch has {known}.')
    if backend != 'inductor':
        return
    if torch.cuda.is_available():
        if importlib.util.find_spec('triton') is None:
            raise UsageError('compile needs triton on a GPU: pip install triton, or leave compile out.')
    elif not shutil.which(os.environ.get('CXX') or 'g++') and not shutil.which('clang++'):
        raise UsageError('compile needs a C++ compiler on a CPU (g++ or clang++), and none is on PATH; leave it out.')


def compile_parts(model: nn.Module, settings: bool | Mapping[str, Any] | None) -> str:
    """Lets every part of a model that can be compiled be.

    A part says so by a method ``use_compiled(compiler)``, which hands the functions that it wants compiled to
    ``compiler``, with ``dynamic=False`` where a step has few shapes, and keeps what it gets back. The same function is
    compiled once. Compiling itself happens in the first steps.

    Args:
        model: not yet trained; what it is wrapped in is taken off before.
        settings: True, or arguments for torch.compile.

    Returns:
        What was compiled, for the log; '' where nothing was asked for.
    """
    if not wants_compiling(settings):
        return ''
    # Graphs are single layers: there is nothing that DDP's buckets would have to cut them at.
    compile_single_layers(GRAPHS)
    given = settings if isinstance(settings, Mapping) else {}

    @functools.cache
    def compiler(function: Callable, **wanted: Any) -> Callable:
        # fullgraph: a part that falls back to Python inside would be slow without a word.
        return torch.compile(function, **{'fullgraph': True, **wanted, **given})

    parts: Counter[str] = Counter()
    for module in model.modules():
        if isinstance(module, CompilablePart):
            module.use_compiled(compiler)
            parts[type(module).__name__] += 1
    return ', '.join(f'{count} x {name}' for name, count in parts.items())
