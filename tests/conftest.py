"""What all tests share: mstkit's names, few threads, and its warnings as errors."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope

import mstkit  # noqa: F401  registers every component
from tests.ports import unused_port

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _mstkit_scope() -> Iterator[None]:
    """Configs use mstkit's names; a scope that a Runner left behind does not leak into the next test."""
    DefaultScope._instance_dict.clear()
    DefaultScope.get_instance('tests', scope_name='mstkit')
    yield
    DefaultScope._instance_dict.clear()


@pytest.fixture(autouse=True)
def _strict_warnings() -> Iterator[None]:
    """A warning that starts in mstkit fails the test."""
    with warnings.catch_warnings():
        warnings.filterwarnings('error', module=r'mstkit(\.|$)')
        yield


@pytest.fixture(autouse=True)
def _quiet_initialisation() -> Iterator[None]:
    """mmengine logs a paragraph for every initialised tensor."""
    level = MMLogger.get_current_instance().level
    MMLogger.get_current_instance().setLevel('WARNING')
    yield
    MMLogger.get_current_instance().setLevel(level)


@pytest.fixture
def free_port() -> int:
    """A port of this machine's that nothing listens on."""
    return unused_port()
