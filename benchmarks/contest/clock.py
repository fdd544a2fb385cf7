"""Measures seconds, or counts, by phase by wrapping methods of objects, without changes of the package."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch


class Clock:
    """Adds up what named phases take; what happens inside an inner phase does not count for the outer one.

    Args:
        device: is synchronized at every boundary, so that a phase includes the time of its own kernels.
        now: what is measured: the time in seconds, or a count that grows.

    Attributes:
        spent: by phase.
    """

    def __init__(self, device: torch.device, now: Callable[[], float] = time.perf_counter) -> None:
        self.device, self.now = device, now
        self.spent: Counter[str] = Counter()
        self._stack: list[str] = []
        self._since: float = 0

    def wrap(self, owner: Any, name: str, phase: str) -> None:
        """Makes every call of ``owner.name`` a phase; does nothing if the owner has no such method."""
        inner: Callable | None = getattr(owner, name, None)
        if inner is None:
            return

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.phase(phase):
                return inner(*args, **kwargs)

        # Past nn.Module's own attribute rules; calls reach it, since instances are searched before classes.
        owner.__dict__[name] = timed

    def phase(self, name: str) -> _Phase:
        """A context whose time is that of a phase."""
        return _Phase(self, name)

    def turn(self) -> None:
        """Adds what was spent since the last boundary to the current phase."""
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)
        now = self.now()
        if self._stack:
            self.spent[self._stack[-1]] += now - self._since
        self._since = now


class _Phase:
    def __init__(self, clock: Clock, name: str) -> None:
        self.clock, self.name = clock, name

    def __enter__(self) -> None:
        self.clock.turn()
        self.clock._stack.append(self.name)

    def __exit__(self, *_: object) -> None:
        self.clock.turn()
        self.clock._stack.pop()
