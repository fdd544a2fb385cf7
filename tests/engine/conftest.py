"""What the tests of the engine share."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _no_inventory(monkeypatch) -> None:
    """A Runner asks compilers and drivers for their versions, which takes seconds each time."""
    monkeypatch.setattr('mstkit.engine.checkpoints.resumable_runner.collect_env', dict)


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch) -> None:
    """Only a power cut would tell the difference, and no test cuts the power."""
    monkeypatch.setattr('os.fsync', lambda descriptor: None)
