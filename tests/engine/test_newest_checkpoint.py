"""Which checkpoint ``--resume`` goes on with."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mstkit.engine.checkpoints import checkpointing
from mstkit.engine.checkpoints.newest_checkpoint import find_newest
from mstkit.errors import UsageError

from . import running
from .test_resume import interrupt


def put(folder: Path, name: str, iteration: int, run: str | None = None, time: str = '', **parts) -> Path:
    meta = dict(iter=iteration, epoch=iteration // 4, time=time, run=run)
    content = {'state_dict': {}, 'optimizer': {}, 'message_hub': {}, 'meta': meta, **parts}
    checkpointing.save({key: value for key, value in content.items() if value is not None}, folder / name)
    return folder / name


def test_nothing_was_ever_written(tmp_path):
    assert find_newest(tmp_path).path is None
    assert find_newest(tmp_path / 'missing').path is None


def test_last_checkpoint_is_what_counts(tmp_path):
    """Not the highest number, and whatever the name."""
    put(tmp_path, 'epoch_9.pth', 36)
    (tmp_path / 'last_checkpoint').write_text(str(put(tmp_path, 'mst.pth', 4)))
    found = find_newest(tmp_path)
    assert (found.path, found.notes) == (tmp_path / 'mst.pth', [])
    assert found.checkpoint is not None and found.checkpoint['meta']['iter'] == 4


@pytest.mark.parametrize(
    'content, message',
    [
        (b'epoch_3.pth', 'names epoch_3.pth, which cannot be resumed from: checkpoint epoch_3.pth does not exist'),
        (b'torn.pth', 'torn.pth is not a readable checkpoint'),
        (b'weights.pth', 'it holds no optimizer'),
        (b'', 'last_checkpoint names no checkpoint'),
        (b'\xff\xfe\x00', 'last_checkpoint cannot be read'),
    ],
)
def test_otherwise_the_newest_good_one_is_taken_and_said(tmp_path, content, message):
    put(tmp_path, 'epoch_9.pth', 36, time='20260101_000000')
    newest = put(tmp_path, 'epoch_2.pth', 8, time='20260102_000000')
    put(tmp_path, 'best_knn.pth', 8, time='20260103_000000')
    put(tmp_path, 'weights.pth', 99, optimizer=None, time='20260104_000000')
    (tmp_path / 'torn.pth').write_bytes(b'PK\x03\x04 torn')
    (tmp_path / 'last_checkpoint').write_bytes(content)
    found = find_newest(tmp_path)
    assert found.path == newest and message in found.notes[0]
    assert found.notes[-1] == f'resuming from {newest}, the newest complete checkpoint'


def test_only_checkpoints_of_the_same_run(tmp_path):
    put(tmp_path, 'epoch_9.pth', 36, run='old')
    mine = put(tmp_path, 'epoch_1.pth', 4, run='new')
    (tmp_path / 'last_checkpoint').write_text('epoch_2.pth')
    found = find_newest(tmp_path, run='new')
    assert found.path == mine
    assert any('epoch_9.pth: it belongs to another run (old, not new)' in note for note in found.notes)
    mine.unlink()
    with pytest.raises(UsageError, match=r'nothing in .* can be resumed.*another run.*leave --resume out'):
        find_newest(tmp_path, run='new')


def test_a_best_one_is_better_than_none(tmp_path):
    (tmp_path / 'epoch_2.pth').write_bytes(b'torn')
    best = put(tmp_path, 'best_knn.pth', 4)
    assert find_newest(tmp_path).path == best


def test_checkpoints_that_cannot_be_resumed_are_no_start_from_scratch(tmp_path):
    (tmp_path / 'epoch_2.pth').write_bytes(b'torn')
    with pytest.raises(
        UsageError, match=r'nothing in .*epoch_2\.pth is not a readable checkpoint.*--resume CHECKPOINT'
    ):
        running.build(tmp_path, resume=True)
    assert (tmp_path / 'epoch_2.pth').read_bytes() == b'torn'


def test_other_weights_in_the_folder_are_no_run(tmp_path):
    put(tmp_path, 'pretrained.pth', 4, optimizer=None)
    found = find_newest(tmp_path)
    assert found.path is None and 'pretrained.pth is no checkpoint of a run' in found.notes[0]


def test_a_name_of_ones_own(tmp_path):
    """Resumed, and cleared away by the next run."""
    hook = dict(type='AtomicCheckpointHook', filename_tmpl='mst-{}.pth')
    running.train(tmp_path / 'whole')
    interrupt(tmp_path / 'cut', 6, default_hooks__checkpoint=hook)
    rest = running.train(tmp_path / 'cut', resume=True, default_hooks__checkpoint=hook)
    assert len(rest.model.seen) == 8
    assert running.same_state(tmp_path / 'whole' / 'epoch_3.pth', tmp_path / 'cut' / 'mst-3.pth')
    running.build(tmp_path / 'cut', default_hooks__checkpoint=hook)
    assert not list((tmp_path / 'cut').glob('*.pth'))


@pytest.mark.parametrize('how', [shutil.move, shutil.copytree])
def test_a_folder_that_was_moved_or_copied(tmp_path, how):
    """Its last_checkpoint leads to where it was; a copy must not go on with, or clear away, the original."""
    interrupt(tmp_path / 'one', 6)
    how(tmp_path / 'one', tmp_path / 'two')
    runner = running.build(tmp_path / 'two', resume=True)
    assert runner._start.path == tmp_path / 'two' / 'epoch_1.pth' and not runner._start.notes
