"""Looking at a network in the middle of its training without leaving a trace."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn


@contextlib.contextmanager
def undisturbed_randomness() -> Iterator[None]:
    """Puts the generators of Python, NumPy and torch (CPU, and each CUDA device in use) back as they were."""
    python_state = random.getstate()
    numpy_state = np.random.get_state()
    torch_state = torch.get_rng_state()
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        torch.set_rng_state(torch_state)
        if cuda_states is not None:
            torch.cuda.set_rng_state_all(cuda_states)


@contextlib.contextmanager
def evaluation_mode(*modules: nn.Module) -> Iterator[None]:
    """Switches modules to evaluation, and each of their parts back to the mode in which it was found.

    The ``training`` flags are set directly: some ``train()`` methods have side effects (mmpretrain's freeze stages
    and return None), and a network may hold parts in different modes, which ``module.train()`` would level.
    """
    modes = {part: part.training for module in modules for part in module.modules()}
    for part in modes:
        part.training = False
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training
