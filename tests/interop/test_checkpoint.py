from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from torch import nn

from mstkit.errors import UsageError
from mstkit.interop import branch_state, branches_of, load_strict, read_checkpoint


class Attack:
    """Unpickling this creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


class GetattrAttack:
    """Reaches for a function through the name that log histories are allowed to use."""

    def __reduce__(self):
        return getattr, (HistoryBuffer, '__init__')


def saved(path: Path, content: object, **kwargs) -> Path:
    torch.save(content, path, **kwargs)
    return path


def test_reads_what_mmengine_writes(tmp_path: Path) -> None:
    hub = MessageHub.get_instance(f'checkpoint_test_{tmp_path.name}')
    for value in (1.0, 3.0):
        hub.update_scalar('train/loss', value)
    hub.update_info('epoch', 4)
    content = {'meta': {'epoch': 4, 'cfg': 'a = 1'}, 'state_dict': {'backbone.w': torch.ones(2)}}
    path = saved(tmp_path / 'a.pth', {**content, 'message_hub': hub.state_dict()})
    before = torch.serialization.get_safe_globals()
    found = read_checkpoint(path)
    assert torch.equal(found['state_dict']['backbone.w'], torch.ones(2))
    assert found['message_hub']['log_scalars']['train/loss'].mean() == pytest.approx(2.0)
    assert found['message_hub']['log_scalars']['train/loss'].statistics('max') == 3.0
    assert set(torch.serialization.get_safe_globals()) == set(before)


@pytest.mark.parametrize('legacy', [False, True])
def test_code_is_refused_and_not_executed(tmp_path: Path, legacy: bool) -> None:
    target = tmp_path / 'made by the attack'
    content = {'state_dict': {'w': torch.ones(1)}, 'meta': Attack(target)}
    path = saved(tmp_path / 'evil.pth', content, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UsageError, match=r'refused.*Nothing in it was executed'):
        read_checkpoint(path)
    path.write_bytes(pickle.dumps(content['meta']))
    with pytest.raises(UsageError):
        read_checkpoint(path)
    assert not target.exists()


def test_getattr_reaches_nothing_else(tmp_path: Path) -> None:
    path = saved(tmp_path / 'evil.pth', {'state_dict': {}, 'meta': GetattrAttack()})
    with pytest.raises(UsageError, match='refused'):
        read_checkpoint(path)


@pytest.mark.parametrize('content', [b'', b'not a checkpoint at all', b'PK\x03\x04' + bytes(200), b'\x80\x02}q\x00'])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / 'a.pth'
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r'a\.pth'):
        read_checkpoint(path)


@pytest.mark.parametrize('kept', [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize('legacy', [False, True])
def test_truncated_files_are_refused(tmp_path: Path, kept: float, legacy: bool) -> None:
    content = {'state_dict': {'w': torch.ones(500)}}
    path = saved(tmp_path / 'a.pth', content, _use_new_zipfile_serialization=not legacy)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(UsageError, match=r'truncated|refused'):
        read_checkpoint(path)


def test_missing_file_folder_and_foreign_layout(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match='does not exist'):
        read_checkpoint(tmp_path / 'none.pth')
    with pytest.raises(UsageError, match='is a folder'):
        read_checkpoint(tmp_path)
    with pytest.raises(UsageError, match=r'no state_dict.*student'):
        read_checkpoint(saved(tmp_path / 'a.pth', {'student': {}}))
    with pytest.raises(UsageError, match=r'no state_dict.*list'):
        read_checkpoint(saved(tmp_path / 'a.pth', [1, 2]))


def test_branches_are_told_apart() -> None:
    state = {
        'backbone.w': torch.zeros(1),
        'teacher.backbone.w': torch.ones(1),
        'teacher.neck.v': torch.ones(2),
        'my_backbone.w': torch.ones(3),
    }
    for wrap in ('', 'module.'):
        checkpoint = {'state_dict': {wrap + key: value for key, value in state.items()}}
        assert {key: value.item() for key, value in branch_state(checkpoint, 'student').items()} == {'w': 0.0}
        assert {key: value.item() for key, value in branch_state(checkpoint, 'teacher').items()} == {'w': 1.0}
        assert branches_of(checkpoint) == ['student', 'teacher']
    assert branches_of({'state_dict': {'my_backbone.w': torch.zeros(1)}}) == []
    with pytest.raises(UsageError, match="no teacher, only a student: take branch 'student'"):
        branch_state({'state_dict': {'backbone.w': torch.zeros(1)}}, 'teacher')
    with pytest.raises(UsageError, match='unknown'):
        branch_state({'state_dict': state}, 'neck')


def test_weights_are_loaded_all_or_none() -> None:
    source, target = nn.Linear(3, 2), nn.Linear(3, 2)
    assert load_strict(target, source.state_dict(), 'teacher').startswith('teacher: loaded 2 of 2 tensors')
    assert torch.equal(source.weight, target.weight)
    untouched = target.weight.clone()
    wrong = {
        'missing 1 \\(bias\\)': {'weight': torch.zeros(2, 3)},
        'unexpected 1 \\(extra\\)': {**source.state_dict(), 'extra': torch.zeros(1)},
        'weight is \\(2, 4\\) in the file and \\(2, 3\\)': {'weight': torch.zeros(2, 4), 'bias': torch.zeros(2)},
    }
    for message, state in wrong.items():
        with pytest.raises(UsageError, match=message):
            load_strict(target, state, 'teacher')
        assert torch.equal(target.weight, untouched)
