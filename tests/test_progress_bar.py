"""Progress: a line now and then, none for quick loops, none from other ranks."""

from __future__ import annotations

import pytest

from mstkit.utils.progress_bar import track


def test_progress_is_quiet_without_a_terminal(capsys: pytest.CaptureFixture) -> None:
    assert list(track(range(4), 4, 'work', every_seconds=60)) == [0, 1, 2, 3]
    assert capsys.readouterr() == ('', '')
    assert list(track(range(2), 2, 'work', every_seconds=0)) == [0, 1]
    assert capsys.readouterr().err.splitlines() == ['work: 1/2 (0 s)', 'work: 2/2 (0 s)']
    assert list(track(range(2), 2, 'work', every_seconds=0, enabled=False)) == [0, 1]
    assert capsys.readouterr() == ('', '')
