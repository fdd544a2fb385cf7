"""``compile`` of the config: torch.compile for those parts of a model that are the same in every step.

mmengine would compile the whole training step, in which masks, views and tensor shapes vary. Here only the layers of
the vision transformers (student and teacher) and the projection heads are compiled. Names in checkpoints do not
change, and evaluation is not compiled.
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

# Graphs per layer: two view sizes x with or without gradients x with or without stochastic depth x all tokens or the
# CLS token only, and room for more.
GRAPHS = 32


def wants_compiling(settings: Any) -> bool:
    """Whether ``compile`` of a config is set; raises UsageError if it is neither a bool nor a dict."""
    if not isinstance(settings, bool | Mapping | None):
        raise UsageError(f'compile is True, False or a dict of arguments for torch.compile, not {settings!r}.')
    return settings is not None and settings is not False


def check_compiling(model: nn.Module, settings: Any) -> None:
    """Refuses a ``compile`` that cannot work, before anything runs.

    Args:
        model: the model to be trained.
        settings: ``compile`` of the config.

    Raises:
        UsageError: the model has no part that can be compiled, or the compiler is missing.
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
    """Compiles every part of a model that supports it.

    Such a part has a method ``use_compiled(compiler)``. It passes the functions to be compiled to ``compiler`` (with
    ``dynamic=False`` if they see few shapes) and keeps the compiled functions that are returned. Each function is
    compiled once; compilation itself happens in the first steps.

    Args:
        model: not yet trained, without a distributed wrapper.
        settings: True, or arguments for torch.compile.

    Returns:
        The compiled parts, for the log; '' if ``compile`` is off.
    """
    if not wants_compiling(settings):
        return ''
    # Every graph is a single layer, so it need not be split at DDP's buckets.
    compile_single_layers(GRAPHS)
    given = settings if isinstance(settings, Mapping) else {}

    @functools.cache
    def compiler(function: Callable, **wanted: Any) -> Callable:
        # fullgraph: an error, instead of a silent and slow fallback to Python inside a part.
        return torch.compile(function, **{'fullgraph': True, **wanted, **given})

    parts: Counter[str] = Counter()
    for module in model.modules():
        if isinstance(module, CompilablePart):
            module.use_compiled(compiler)
            parts[type(module).__name__] += 1
    return ', '.join(f'{count} x {name}' for name, count in parts.items())
