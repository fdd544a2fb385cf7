"""A file's name stands for a whole file, whatever happens while it is written."""

from __future__ import annotations

import os

import pytest

from mstkit import files


class Dies(BaseException):
    """What a kill looks like from inside."""


def die(*_: object) -> None:
    raise Dies


def test_a_write_that_dies_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / 'epoch_1.pth'
    files.write_atomically(path, b'before')

    def half(file):
        file.write(b'half')
        raise Dies

    with pytest.raises(Dies):
        files.write_atomically(path, half)
    assert path.read_bytes() == b'before'
    assert list(tmp_path.iterdir()) == [path], 'a failed write cleans up behind itself'

    monkeypatch.setattr(os, 'replace', die)
    with pytest.raises(Dies):
        files.write_atomically(path, b'after')
    assert path.read_bytes() == b'before'
    assert list(tmp_path.iterdir()) == [path]


def test_leftovers_are_removed_and_named(tmp_path):
    leftover = tmp_path / '.epoch_2.pth.123.partial'
    leftover.write_bytes(b'half')
    (tmp_path / 'epoch_1.pth').write_bytes(b'whole')
    folder = tmp_path / '.epoch_3.dcp.partial'
    folder.mkdir()
    (folder / 'piece').write_bytes(b'half')
    assert files.remove_leftovers(tmp_path) == [leftover, folder]
    assert [path.name for path in tmp_path.iterdir()] == ['epoch_1.pth']


@pytest.mark.parametrize('links', [True, False])
def test_a_second_name_is_a_link_or_else_a_copy(tmp_path, monkeypatch, links):
    source, target = tmp_path / 'a.png', tmp_path / 'new' / 'b.png'
    source.write_bytes(b'picture')
    if not links:
        monkeypatch.setattr(os, 'link', lambda *_: (_ for _ in ()).throw(OSError('no hard links here')))
    for _ in range(2):
        files.link_or_copy(source, target)
        assert target.read_bytes() == b'picture'
        assert os.path.samefile(source, target) == links
    assert list(target.parent.iterdir()) == [target]
