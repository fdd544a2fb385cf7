"""A file's name stands for a whole file, whatever happens while it is written."""

from __future__ import annotations

import errno
import io
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mstkit.engine.checkpoints.checkpointing import save
from mstkit.errors import DiskError
from mstkit.utils import files

from . import warm

ROOT = Path(__file__).resolve().parent.parent


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
    source.write_bytes(b'image')
    if not links:
        monkeypatch.setattr(os, 'link', lambda *_: (_ for _ in ()).throw(OSError('no hard links here')))
    for _ in range(2):
        files.link_or_copy(source, target)
        assert target.read_bytes() == b'image'
        assert os.path.samefile(source, target) == links
    assert list(target.parent.iterdir()) == [target]


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class FullDisk:
    """Takes so many bytes."""

    def __init__(self, monkeypatch, takes: int) -> None:
        self.left = takes
        monkeypatch.setattr(files, '_open', self.open)

    def open(self, path) -> io.FileIO:
        disk = self

        class File(io.FileIO):
            def write(self, data) -> int:
                if len(data) > disk.left:
                    full()
                disk.left -= len(data)
                return super().write(data)

        return File(path, 'w')


WRITERS = {
    'torch': lambda file: torch.save({'a': torch.zeros(300_000)}, file),
    'numpy': lambda file: np.savez(file, a=np.zeros(300_000)),
    'pillow': lambda file: Image.fromarray(np.random.default_rng(0).integers(0, 255, (400, 400, 3), np.uint8)).save(
        file, 'PNG'
    ),
    'bytes': b'x' * 300_000,
}


@pytest.mark.parametrize('name', WRITERS)
def test_a_full_disk_is_one_sentence(name, tmp_path, monkeypatch):
    """torch says "unexpected pos" instead, Pillow "encoder error -2"."""
    path = tmp_path / 'epoch_1.pth'
    path.write_bytes(b'before')
    FullDisk(monkeypatch, takes=20_000)
    with pytest.raises(DiskError) as caught:
        files.write_atomically(path, WRITERS[name], size=1_200_000)
    assert f'{path} cannot be written: the disk is full (it needs about ' in str(caught.value)
    assert re.search(r'about (0\.3|1\.2) MB, [\d.]+ [kMG]B free\)', str(caught.value))
    assert path.read_bytes() == b'before' and list(tmp_path.iterdir()) == [path]


def test_a_checkpoint_says_how_much_it_needs(tmp_path, monkeypatch):
    FullDisk(monkeypatch, takes=20_000)
    with pytest.raises(DiskError, match=r'it needs about 4\.0 MB'):
        save(dict(state_dict=dict(a=torch.zeros(10**6)), meta=dict(epoch=1)), tmp_path / 'epoch_1.pth')


def test_a_real_limit_is_met(tmp_path):
    """Not a stand-in: the system itself refuses the file."""
    limit = 'import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);'
    limit += 'resource.setrlimit(resource.RLIMIT_FSIZE, (50000, 50000))\n'
    code = (
        limit
        + f'from mstkit.utils.files import write_atomically\nwrite_atomically({str(tmp_path / "x")!r}, bytes(10**6))'
    )
    result = subprocess.run([warm.python(), '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 1
    assert 'DiskError' in result.stderr and 'x cannot be written: file too large' in result.stderr, result.stderr
    assert 'Raise the limit of this shell (ulimit -f unlimited)' in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('blocked', ['a file instead of a folder', 'read-only'])
def test_a_folder_that_takes_no_files_is_one_sentence(blocked, tmp_path, monkeypatch):
    path = tmp_path / 'results' / 'x.json'
    if blocked == 'read-only':

        def refuse(*_: object) -> None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        monkeypatch.setattr(files, '_open', refuse)
    else:
        (tmp_path / 'results').write_bytes(b'')
    with pytest.raises(DiskError, match=r'x\.json cannot be written: .*Make the folder writable'):
        files.write_atomically(path, b'{}')


def test_another_error_of_a_writer_stays_what_it_is(tmp_path):
    nothing: dict[str, bytes] = {}
    with pytest.raises(KeyError):
        files.write_atomically(tmp_path / 'x', lambda file: nothing['y'])
    assert list(tmp_path.iterdir()) == []


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, '-S', '-c', ''])
    process.wait()
    return process.pid


def test_what_killed_processes_left_is_removed_by_the_next_write(tmp_path):
    dead = dead_process()
    names = {
        'dead': f'.a.png.{files._HOST}_{dead}.partial',
        'alive': f'.a.png.{files._HOST}_{os.getppid()}.partial',
        'young': f'.b.png.{files._HOST}_{dead}.partial',
        'elsewhere': f'.a.png.another_{dead}.partial',
        'unknown': '.a.png.partial',
    }
    for kind, name in names.items():
        (tmp_path / name).write_bytes(b'half')
        if kind != 'young':
            os.utime(tmp_path / name, (time.time() - 3600,) * 2)
    files.write_atomically(tmp_path / 'c.png', b'whole')
    kept = {name for kind, name in names.items() if kind != 'dead'}
    assert {path.name for path in tmp_path.iterdir()} == {*kept, 'c.png'}
