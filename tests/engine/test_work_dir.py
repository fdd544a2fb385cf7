"""A work dir belongs to one training at a time, and to one run."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from pathlib import Path

import pytest

from mstkit.engine.checkpoints import work_dir_lock
from mstkit.engine.checkpoints.earlier_runs import finish_moves, set_aside_run
from mstkit.engine.checkpoints.work_dir_lock import LOCK, lock_work_dir
from mstkit.errors import UsageError
from tests.programs import load_program

from . import running
from .test_resume import interrupt


def lock_as_another(folder: Path) -> int:
    """Takes the lock as another process would: by a description of the file of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.ftruncate(descriptor, 0)
    os.write(descriptor, json.dumps(dict(host='there', pid=77, started='2026-01-02 03:04:05')).encode())
    return descriptor


def earlier(work_dir: Path) -> list[Path]:
    return sorted(work_dir.glob('earlier_*'))


def said(runner) -> str:
    return '\n'.join(runner._work_dir_claim.notes)


def test_the_new_run_is_resumed_and_not_the_old_one(tmp_path):
    """A finished run of three epochs; a new one in its folder is killed in its second."""
    work_dir = tmp_path / 'run'
    old = running.train(work_dir)
    (work_dir / 'knn.jsonl').write_text('{"epoch": 3}\n')
    (work_dir / 'mine.txt').write_text('not of the run')
    running.train(tmp_path / 'whole', randomness=dict(seed=5))
    interrupt(work_dir, 6, randomness=dict(seed=5))
    assert [path.name for path in work_dir.glob('*.pth')] == ['epoch_1.pth']
    rest = running.train(work_dir, resume=True, randomness=dict(seed=5))
    assert len(rest.model.seen) == 8
    assert running.same_state(tmp_path / 'whole' / 'epoch_3.pth', work_dir / 'epoch_3.pth')
    [kept] = earlier(work_dir)
    names = {path.name for path in kept.iterdir()}
    assert names >= {'epoch_2.pth', 'epoch_3.pth', 'last_checkpoint', 'knn.jsonl', Path(old._log_dir).name}
    assert not (work_dir / 'knn.jsonl').exists() and (work_dir / 'mine.txt').exists()
    # The old one can be gone on with where it is now: it is over, so nothing is left to do.
    assert running.train(kept, resume=True, randomness=dict(seed=0)).iter == 12


def test_what_was_set_aside_is_said(tmp_path):
    running.train(tmp_path)
    runner = running.build(tmp_path)
    [kept] = earlier(tmp_path)
    assert f'{tmp_path} held an earlier run: its 2 checkpoints, records and logs went to {kept}' in said(runner)
    assert said(running.build(tmp_path)) == '', 'and only once'


def test_a_run_that_goes_on_sets_nothing_aside(tmp_path):
    interrupt(tmp_path, 10)
    running.train(tmp_path, resume=True)
    running.train(tmp_path, resume=True)
    assert not earlier(tmp_path)


def test_going_on_from_an_earlier_checkpoint_sets_the_later_ones_aside(tmp_path):
    """Else a run that is killed before it saves would be resumed from the future that it was to leave."""
    interrupt(tmp_path, 10)
    interrupt(tmp_path, 6, resume=True, load_from=str(tmp_path / 'epoch_1.pth'))
    assert [path.name for path in earlier(tmp_path)[0].glob('*.pth')] == ['epoch_2.pth']
    rest = running.build(tmp_path, resume=True)
    assert rest._start.path == tmp_path / 'epoch_1.pth'
    assert 'which cannot be resumed' not in '\n'.join(rest._start.notes)


def test_a_checkpoint_from_elsewhere_is_another_run(tmp_path):
    """Where a run is moved to another folder, what was in that folder makes room."""
    running.train(tmp_path / 'one')
    interrupt(tmp_path / 'two', 6)
    running.train(tmp_path / 'two', resume=True, load_from=str(tmp_path / 'one' / 'epoch_2.pth'))
    assert [path.name for path in earlier(tmp_path / 'two')[0].glob('*.pth')] == ['epoch_1.pth']
    assert [path.name for path in (tmp_path / 'two').glob('*.pth')] == ['epoch_3.pth']


def test_checkpoints_kept_elsewhere_are_set_aside_there(tmp_path):
    hook = dict(type='AtomicCheckpointHook', out_dir=str(tmp_path / 'disk'), filename_tmpl='mst-{}.pth')
    interrupt(tmp_path / 'run', 6, default_hooks__checkpoint=hook)
    running.train(tmp_path / 'run', default_hooks__checkpoint=hook)
    kept = earlier(tmp_path / 'disk' / 'run')[0]
    assert kept.name == earlier(tmp_path / 'run')[0].name
    assert [path.name for path in kept.iterdir()] == ['mst-1.pth']
    assert sorted(path.name for path in (tmp_path / 'disk' / 'run').glob('*.pth')) == [
        'mst-1.pth', 'mst-2.pth', 'mst-3.pth'
    ]  # fmt: skip


def test_a_process_killed_while_setting_aside_leaves_the_rest_to_the_next(tmp_path, monkeypatch):
    for name in ('epoch_1.pth', 'epoch_2.pth'):
        (tmp_path / name).write_text(name)
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_2.pth'))
    rename, calls = Path.rename, []

    def dies(path, target):
        calls.append(path.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, 'rename', dies)
    with pytest.raises(KeyboardInterrupt):
        set_aside_run([tmp_path])
    assert (tmp_path / 'epoch_2.pth').exists()
    finish_moves(tmp_path)
    assert sorted(path.name for path in earlier(tmp_path)[0].iterdir()) == [
        'epoch_1.pth', 'epoch_2.pth', 'last_checkpoint'
    ]  # fmt: skip
    assert not list(tmp_path.glob('*.pth'))


@pytest.mark.parametrize('resume', [False, True])
def test_a_folder_that_is_trained_in_is_refused(tmp_path, resume):
    interrupt(tmp_path, 6)
    before = (tmp_path / 'epoch_1.pth').read_bytes()
    descriptor = lock_as_another(tmp_path)
    with pytest.raises(UsageError, match=r'trained in by process 77 on there, started 2026-01-02.*--work-dir'):
        running.build(tmp_path, resume=resume)
    os.close(descriptor)
    assert (tmp_path / 'epoch_1.pth').read_bytes() == before and not earlier(tmp_path)
    running.train(tmp_path, resume=resume)


def test_a_folder_is_locked_while_it_is_trained_in_and_no_longer(tmp_path):
    runner = running.build(tmp_path)
    descriptor = os.open(tmp_path / LOCK, os.O_RDWR)
    with pytest.raises(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    holder = json.loads((tmp_path / LOCK).read_text())
    assert holder['pid'] == os.getpid() and holder['run'] == runner._run_id
    runner.train()
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)


def test_a_mistake_makes_no_folder(tmp_path):
    with pytest.raises(UsageError):
        running.build(tmp_path / 'run', model__no_such_argument=1)
    assert not (tmp_path / 'run').exists()


def test_a_killed_training_leaves_no_lock_although_its_workers_live(tmp_path):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        lock = lock_work_dir(tmp_path)
        if os.fork() == 0:
            os.write(writer, str(os.getpid()).encode())  # by the worker, which then is one that has let go of the lock
            time.sleep(60)
            os._exit(0)
        time.sleep(60)
        os._exit(bool(lock))
    worker = int(os.read(reader, 20))
    try:
        with pytest.raises(UsageError, match=f'process {child}'):
            lock_work_dir(tmp_path)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert lock_work_dir(tmp_path).warning is None
    finally:
        os.kill(worker, signal.SIGKILL)
        os.close(reader)
        os.close(writer)


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(95, 'Operation not supported')

    monkeypatch.setattr(work_dir_lock.fcntl, 'flock', no_locks)
    assert 'a file system without locks (Operation not supported)' in said(running.build(tmp_path))


def test_a_demo_empties_no_folder_that_another_one_is_training_in(tmp_path):
    demo = load_program('tools/demo.py')
    (tmp_path / demo.MARK).touch()
    (tmp_path / 'epoch_1.pth').touch()
    descriptor = lock_as_another(tmp_path)
    with pytest.raises(UsageError, match='process 77'):
        demo.empty(tmp_path)
    assert (tmp_path / 'epoch_1.pth').exists()
    os.close(descriptor)
    demo.empty(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [demo.MARK, LOCK]


def _rank(rank: int, work_dir: str) -> str:
    try:
        running.build(work_dir)
        return 'built'
    except UsageError as error:
        return str(error)


def test_all_ranks_learn_that_a_folder_is_taken(run_two, tmp_path):
    descriptor = lock_as_another(tmp_path)
    found = run_two(_rank, str(tmp_path))
    os.close(descriptor)
    assert all('process 77 on there' in message for message in found)
