"""A user's mistake reads the same wherever it was found."""

from __future__ import annotations

import errno
import os
import pickle
import signal

import pytest
from torch.utils.data import DataLoader, Dataset

from mstkit.errors import STOPPED_EXIT, USAGE_EXIT, UsageError, WorkStopped, exit_cleanly
from tests.programs import load_program

MESSAGE = "the image 'a: b.jpg' cannot be read (UsageError: no reason): copy it again."


class Broken(Dataset):
    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> int:
        try:
            raise OSError('Caught in between')
        except OSError as error:
            raise UsageError(MESSAGE) from error


@pytest.mark.parametrize('workers', [0, 1])
def test_a_mistake_in_a_worker_is_its_sentence_alone(workers):
    with pytest.raises(UsageError) as caught:
        list(DataLoader(Broken(), num_workers=workers))
    assert str(caught.value) == MESSAGE


def test_a_message_that_names_another_is_kept_whole():
    message = 'config x.py cannot be read: UsageError: epochs is 0'
    assert str(UsageError(message)) == message
    assert str(pickle.loads(pickle.dumps(UsageError(message)))) == message


@pytest.mark.parametrize(('error', 'code'), [(UsageError('no'), 2), (WorkStopped('diverged'), 3)])
def test_a_tool_says_one_line_and_exits(error, code, capsys):
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as caught:
        exit_cleanly(main)()
    assert caught.value.code == code
    assert capsys.readouterr().err == f'error: {error}\n'


@pytest.mark.parametrize('number', [errno.ENOSPC, errno.EDQUOT, errno.ENOENT])
def test_a_full_disk_is_one_line_whoever_met_it(number, capsys):
    def main() -> None:
        raise OSError(number, 'no', 'scalars.json')

    with pytest.raises(FileNotFoundError if number == errno.ENOENT else SystemExit) as caught:
        exit_cleanly(main)()
    if number != errno.ENOENT:
        assert isinstance(caught.value, SystemExit)
        assert caught.value.code == STOPPED_EXIT
        assert capsys.readouterr().err == 'error: scalars.json cannot be written: the disk is full.\n'


@pytest.mark.parametrize('use', [os.mkdir, open, os.stat])
def test_a_path_that_is_too_long_is_one_line(use, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        exit_cleanly(lambda: use(tmp_path / ('x' * 300 + 'the end')))()
    assert stopped.value.code == USAGE_EXIT
    said = capsys.readouterr().err
    assert said.startswith('error: ') and said.endswith('xthe end: File name too long\n') and len(said) < 300
    with pytest.raises(FileNotFoundError):  # what was looked for is known to somebody else
        exit_cleanly(lambda: use(tmp_path / 'no folder' / 'x'))()


def test_the_launcher_knows_the_codes():
    codes = (USAGE_EXIT, STOPPED_EXIT, *(128 + number for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)))
    assert codes == load_program('tools/torchrun.py').REPORTED


@pytest.mark.parametrize(
    'error',
    [MemoryError('Unable to allocate 7 TiB'), ImportError('/x.so: failed to map segment from shared object')],
    ids=['python', 'loader'],
)
def test_memory_that_runs_out_is_a_line(error, capsys):
    @exit_cleanly
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == STOPPED_EXIT
    assert capsys.readouterr().err == f'error: memory ran out ({error}): free some.\n'


def test_what_cannot_be_imported_otherwise_is_no_matter_of_memory():
    @exit_cleanly
    def main() -> None:
        raise ImportError('no module named x')

    with pytest.raises(ImportError):
        main()
