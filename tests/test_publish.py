"""``mstkit publish``: a release file that every command can read."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from pathlib import Path

import pytest
import torch

from mstkit.commands import publish_command
from mstkit.experiments.transfer_source import read_source
from mstkit.interop.checkpoint import branches_of, read_checkpoint
from mstkit.networks import open_networks
from mstkit.version import __version__

from .evaluation.checkpoints import save_checkpoint


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A work dir with a checkpoint of epoch 5 and its k-NN accuracies."""
    folder = tmp_path / 'my_run'
    folder.mkdir()
    content = torch.load(save_checkpoint(folder / 'epoch_5.pth'), weights_only=True)
    content['meta'] |= dict(epoch=5, iter=50, seed=3, hostname='mine')
    torch.save({**content, 'optimizer': {'state': torch.zeros(9)}}, folder / 'epoch_5.pth')
    lines = [
        dict(epoch=epoch, k=20, branches=dict(student=dict(k20_top1=epoch + 0.5), teacher=dict(k20_top1=epoch + 0.25)))
        for epoch in (0, 5, 10)
    ]
    (folder / 'knn.jsonl').write_text(''.join(f'{json.dumps(line)}\n' for line in lines))
    return folder


def publish(monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr(sys, 'argv', ['mstkit publish', *map(str, words)])
    publish_command.main()


def test_a_release_is_one_branch_with_config_and_numbers(run_folder, tmp_path, monkeypatch, capsys):
    source = run_folder / 'epoch_5.pth'
    publish(monkeypatch, source, '--branch', 'teacher', '--out', tmp_path / 'released')
    (file,) = (tmp_path / 'released').iterdir()
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert file.name == f'my_run_epoch5_teacher-{digest[:8]}.pth'
    said = capsys.readouterr().out
    assert str(file) in said and 'k-NN accuracies in it: k20_top1 5.2' in said
    content = torch.load(file, weights_only=True)
    assert set(content) == {'meta', 'state_dict'}
    assert set(content['meta']) == {'cfg', 'epoch', 'iter', 'seed', 'released'}
    assert content['meta']['released'] == dict(branch='teacher', mstkit=__version__, knn={'k20_top1': 5.25})
    before = torch.load(source, weights_only=True)
    assert content['meta']['cfg'] == before['meta']['cfg']
    prefix = 'teacher.backbone.'
    wanted = {f'backbone.{key[len(prefix) :]}': v for key, v in before['state_dict'].items() if key.startswith(prefix)}
    assert content['state_dict'].keys() == wanted.keys()
    assert all(torch.equal(content['state_dict'][key], value) for key, value in wanted.items())


def test_it_is_read_like_any_checkpoint(run_folder, tmp_path, monkeypatch):
    """By what evaluates a network, and by what fine-tunes one; the tokens are those of the branch."""
    source = run_folder / 'epoch_5.pth'
    publish(monkeypatch, source, '--branch', 'teacher', '--out', tmp_path / 'released', '--name', 'vit')
    (file,) = (tmp_path / 'released').iterdir()
    assert re.fullmatch(r'vit_epoch5_teacher-[0-9a-f]{8}\.pth', file.name)
    assert branches_of(read_checkpoint(file)) == ['student']
    (network,), (teacher,) = open_networks(str(file), None, 'cpu'), open_networks(str(source), 'teacher', 'cpu')
    images = torch.randn(2, 3, network.image_size, network.image_size, generator=torch.Generator().manual_seed(0))
    assert torch.equal(network.features(images), teacher.features(images))
    assert read_source(str(file)).epoch == 5


def test_mistakes_write_nothing(run_folder, tmp_path, monkeypatch, capsys):
    source = run_folder / 'epoch_5.pth'
    out = tmp_path / 'released'
    content = torch.load(source, weights_only=True)
    student = {key: value for key, value in content['state_dict'].items() if not key.startswith('teacher.')}
    torch.save({**content, 'state_dict': student}, run_folder / 'student.pth')
    (run_folder / 'knn.jsonl').write_text('{"epoch": 5}\n')
    for words, message in (
        ((source,), 'knn.jsonl is no record of k-NN accuracies'),
        ((source, '--name', 'a/b'), '--name a/b: it is the name of a file without its folder'),
        ((run_folder / 'student.pth', '--branch', 'teacher'), 'the checkpoint has no teacher, only a student'),
        ((run_folder / 'none.pth',), 'none.pth'),
    ):
        with pytest.raises(SystemExit) as caught:
            publish(monkeypatch, *words, '--out', out)
        assert caught.value.code == 2
        assert message in capsys.readouterr().err
        assert not out.exists() or list(out.iterdir()) == []
