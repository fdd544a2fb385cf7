"""What all tests share: mstkit's names, few threads, and its warnings as errors."""

from __future__ import annotations

import functools
import gc
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import yapf.yapflib.yapf_api
from mmengine.logging import MMLogger
from mmengine.model import base_module, weight_init
from mmengine.registry import DefaultScope

from tests import warm

# A run writes its config four times, and yapf, which only breaks its lines, takes most of a second each time.
LAY_OUT = yapf.yapflib.yapf_api.FormatCode
yapf.yapflib.yapf_api.FormatCode = lambda text, **_: (text, False)
# The mean of every tensor, taken again at each initialization of a layer, for paragraphs of the log that no test reads.
base_module.update_init_info = weight_init.update_init_info = lambda module, init_info: None
warm.start_foundations()  # before mstkit is imported

import mstkit.downstream  # noqa: E402, F401  some tests import mmdet and mmseg
from mstkit import datasets, engine, evaluation, models, visualization  # noqa: E402, F401  registers every component
from tests.ports import unused_port  # noqa: E402
from tests.programs import ROOT  # noqa: E402
from tests.two_processes import TwoProcesses  # noqa: E402

torch.set_num_threads(1)
if not torch.cuda.is_available():
    # torch's own also notes the whole stack for each kind of device that might be initialized later: half a millisecond
    # for each step of a run.
    torch.manual_seed = lambda seed: torch.default_generator.manual_seed(int(seed))
# What was imported stays: a data set of mmengine's collects garbage each time, and would look through all of it.
gc.freeze()


def pytest_configure() -> None:
    """Before any test runs, and before xdist starts its processes."""
    warm.start()
    sys.executable = warm.plain_python()  # for what the tests start, whoever forked this process


@pytest.hookimpl(optionalhook=True)  # there may be no xdist
def pytest_xdist_setupnodes(specs: list[Any]) -> None:
    """A process of xdist is a copy of one that has imported all that is above, which takes seconds each time."""
    for spec in specs:
        if spec.popen and not spec.python:
            spec.python = warm.python()


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
def _quiet_initialization() -> Iterator[None]:
    """mmengine logs a paragraph for every initialized tensor."""
    level = MMLogger.get_current_instance().level
    MMLogger.get_current_instance().setLevel('WARNING')
    yield
    MMLogger.get_current_instance().setLevel(level)


@pytest.fixture(scope='module', autouse=True)
def _what_stays() -> Iterator[None]:
    """What a file has left for good (graphs of dynamo, message hubs) is not looked through again by all that follow."""
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture
def laid_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text of a config has the lines that yapf makes of it, as it has for users."""
    monkeypatch.setattr('yapf.yapflib.yapf_api.FormatCode', LAY_OUT)


@pytest.fixture
def free_port() -> int:
    """A port of this machine's that nothing listens on."""
    return unused_port()


@pytest.fixture(scope='session')
def run_two() -> Iterator[TwoProcesses]:
    """Runs a function in two processes, which serve all the tests that ask for them."""
    processes = TwoProcesses()
    yield processes
    processes.close()


# A process of xdist (make test) gets a file whole, and these files together, so that what tests share is made once:
# the runs that the tests of downstream tasks look at, and the two processes. They come first, being longest.
DOWNSTREAM, TWO_PROCESSES = 'tests/downstream/', 'run_two'


@functools.cache
def _group_of(file: str) -> str:
    if file.startswith(DOWNSTREAM):
        return DOWNSTREAM
    return TWO_PROCESSES if 'run_two' in (ROOT / file).read_text(encoding='utf-8') else file


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the long groups first, so that no process waits for another at the end."""
    nameless = [item.nodeid for item in items if ' at 0x' in item.nodeid]
    if nameless:  # two processes may have another address, and xdist then runs nothing at all
        raise pytest.UsageError(f'an address is in the name of a test, give it ids: {nameless[0]}')
    items.sort(key=lambda item: _group_of(item.nodeid.split('::')[0]) not in (DOWNSTREAM, TWO_PROCESSES))


def pytest_collection_finish() -> None:
    """The modules of tests and their thousands of items stay, too."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)  # there may be no xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hands out groups, in their order."""
    from xdist.scheduler import LoadScopeScheduling

    class GroupScheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _group_of(nodeid.split('::')[0])

    config.option.loadscopereorder = False
    return GroupScheduling(config, log)
