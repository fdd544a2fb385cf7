"""The limit of open files is raised as far as it goes; one that cannot be enough is refused before a batch is lost."""

from __future__ import annotations

import resource

import pytest

from mstkit.errors import UsageError
from mstkit.utils import open_files

from . import running


@pytest.fixture
def limits(monkeypatch):
    """Stands for the system's limits: (soft, hard), and what was set."""
    kept: list[tuple[int, int]] = []

    def set_to(soft: int, hard: int) -> list[tuple[int, int]]:
        monkeypatch.setattr(resource, 'getrlimit', lambda kind: (soft, hard))
        return kept

    monkeypatch.setattr(resource, 'setrlimit', lambda kind, pair: kept.append(pair))
    monkeypatch.setattr(open_files, '_open_now', lambda: 20)
    return set_to


@pytest.mark.parametrize(
    ('soft', 'hard', 'becomes'),
    [
        (1024, 4096, [(4096, 4096)]),
        (1024, 1 << 20, [(16_384, 1 << 20)]),
        (1024, resource.RLIM_INFINITY, [(16_384, resource.RLIM_INFINITY)]),
        (65_536, 1 << 20, []),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, []),
    ],
)
def test_the_limit_is_raised_as_far_as_it_goes(limits, soft, hard, becomes):
    kept = limits(soft, hard)
    open_files.allow_open_files(4)
    assert kept == becomes


def test_a_limit_that_cannot_be_enough_is_refused(limits, tmp_path):
    limits(64, 64)
    with pytest.raises(UsageError, match=r'only 64 files may be open here.*4 data workers needs about 276.*ulimit -n'):
        open_files.allow_open_files(4)
    with pytest.raises(UsageError, match='only 64 files'):
        running.build(tmp_path / 'run')
    assert not (tmp_path / 'run').exists()
    limits(84, 84)
    open_files.allow_open_files(0)
